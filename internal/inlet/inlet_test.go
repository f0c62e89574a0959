package inlet

import (
	"testing"

	"github.com/onload-go/onload/internal/bpfobject"
	"github.com/onload-go/onload/internal/inlet/bpf"
	_ "github.com/onload-go/onload/internal/testlong" // go test ./... -long
)

func TestObjectIsCurrent(t *testing.T) { bpfobject.Current(t, "inlet", bpf.ClangMajor) }
