// Package similar finds the word that a misspelt one stands for.
package similar

// typos is how many letters of a name may be wrong, missing or too many.
const typos = 2

// To returns the one of names that name most likely stands for, or "".
func To(name string, names []string) (near string) {
	least := typos + 1
	for _, n := range names {
		if d := edits(name, n); d < least {
			near, least = n, d
		}
	}
	return near
}

// edits is the Levenshtein distance of a and b, in bytes.
func edits(a, b string) int {
	row := make([]int, len(b)+1) // of a's bytes so far, to each beginning of b
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0] // of one byte less of either
		row[0] = i + 1
		for j := range len(b) {
			d := before
			if a[i] != b[j] {
				d = min(before, row[j], row[j+1]) + 1
			}
			before, row[j+1] = row[j+1], d
		}
	}
	return row[len(b)]
}
