package data

// WriteTokens is for tests that ask Python about a token file.
var WriteTokens = writeTokens

// Metadata describes no text.
var Metadata = tokensMeta{}
