package operate

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/jsonschema-go/jsonschema"
)

// schemas has for each command what --json prints.
var schemas = map[string]func() (*jsonschema.Schema, error){
	"ps":   schemaOf[ProcessList],
	"ss":   schemaOf[SocketList],
	"stat": schemaOf[CounterList],

	"queues": schemaOf[QueueList],
	"steer":  schemaOf[SteeringList],
	"routes": schemaOf[RouteList],
}

func schemaOf[T any]() (*jsonschema.Schema, error) { return jsonschema.For[T](nil) }

func schemaFile(command string) string {
	return filepath.Join("..", "..", "docs", "schema", "onload-"+command+".json")
}

// TestSchemas: the published schemas are those of the structs that are printed.
func TestSchemas(t *testing.T) {
	for command, make := range schemas {
		s, err := make()
		if err != nil {
			t.Fatalf("%s: %v", command, err)
		}
		s.Schema = "https://json-schema.org/draft/2020-12/schema"
		s.Title = "onload " + command + " --json"
		want, err := json.MarshalIndent(s, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, '\n')
		if *update {
			if err := os.WriteFile(schemaFile(command), want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(schemaFile(command))
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) {
			t.Errorf("%s is not what the command prints: -update writes it anew", schemaFile(command))
		}
	}
}

// validate checks what a command printed against its published schema.
func validate(t *testing.T, command string, out []byte) {
	t.Helper()
	text, err := os.ReadFile(schemaFile(command))
	if err != nil {
		t.Fatal(err)
	}
	var s jsonschema.Schema
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	r, err := s.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(out, &v); err != nil {
		t.Fatal(err)
	}
	if err := r.Validate(v); err != nil {
		t.Errorf("onload %s --json: %v", command, err)
	}
}
