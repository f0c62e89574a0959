package doctor

import (
	"encoding/json"
	"flag"
	"os"
	"testing"

	"github.com/google/jsonschema-go/jsonschema"
)

var update = flag.Bool("update", false, "write docs/schema/onload-doctor.json anew")

const schemaFile = "../../docs/schema/onload-doctor.json"

// TestSchema: the published schema is that of what onload doctor -json prints, and a
// report of this machine keeps it.
func TestSchema(t *testing.T) {
	s, err := jsonschema.For[Report](nil)
	if err != nil {
		t.Fatal(err)
	}
	s.Schema = "https://json-schema.org/draft/2020-12/schema"
	s.Title = "onload doctor --json"
	want, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	want = append(want, '\n')
	if *update {
		if err := os.WriteFile(schemaFile, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("%s is not what the command prints: -update writes it anew", schemaFile)
	}
	var published jsonschema.Schema
	if err := json.Unmarshal(got, &published); err != nil {
		t.Fatal(err)
	}
	r, err := published.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	report := Examine(Config{Path: "/bin/true"})
	text, err := json.Marshal(&report)
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	if err := r.Validate(v); err != nil {
		t.Error(err)
	}
}
