package engine

// CheckVariable returns what is wrong with a variable of the environment, such as
// "ONLOAD_PROFILE=fast"; nil: nothing, as far as it alone shows.
func CheckVariable(kv string) error {
	_, err := configFrom([]string{kv})
	return err
}
