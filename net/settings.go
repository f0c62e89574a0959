package onload

import "github.com/onload-go/onload/internal/engine"

// Setting describes a field of Config and its environment variable.
type Setting struct {
	Field   string // of Config
	Env     string // the variable, ONLOAD_...
	Values  string // what is valid
	Default string
	Doc     string // one line
}

// Settings lists all settings.
func Settings() []Setting {
	var list []Setting
	for _, s := range engine.Settings() {
		list = append(list, Setting(s))
	}
	return list
}

// ConfigFromEnv returns the Config that the ONLOAD_* variables ask for, as the
// engine behind the package-level functions uses it. The error names every variable
// that is unknown or cannot be understood.
func ConfigFromEnv() (Config, error) {
	c, err := engine.ConfigFromEnv()
	return Config(c), err
}
