package mlxbind

// Opened is the Runtime of this test process, which can have but one.
func Opened() *Runtime { return rt }
