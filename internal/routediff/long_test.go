package routediff

import _ "github.com/onload-go/onload/internal/testlong" // go test ./... -long
