package command

// sawPatient makes the test binary be a patient instead.
const sawPatient = "COMMAND_TEST_PATIENT"

func patient() {}
