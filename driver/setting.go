package driver

// A SettingError is a device's refusal of a setting that it cannot have, such as a
// queue that the interface does not have. Other failures to open a device are not:
// the same setting may work elsewhere or later.
type SettingError struct {
	Field string // of the public Config: "Queues", "Frames"
	Err   error  // what is wrong, in words that follow the name
}

// Error is what is wrong, and names the setting.
func (e *SettingError) Error() string { return e.Field + ": " + e.Err.Error() }

// Unwrap returns what is wrong.
func (e *SettingError) Unwrap() error { return e.Err }
