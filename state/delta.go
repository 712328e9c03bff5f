package state

import (
	"bytes"
	"slices"

	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/httpapi"
)

// edit replaces the bytes of a text from one offset to another. Lines and columns are
// sent along and mean nothing.
type edit struct {
	Span struct {
		Start position `json:"start"`
		End   position `json:"end"`
	} `json:"Span"`
	NewText string `json:"NewText"`
}

type position struct {
	Offset int `json:"offset"`
}

// applyEdits applies edits to text, which stays as it is. All offsets are those of
// text; the edits may come in any order but must not overlap. Insertions at the same
// place are made in the order given.
func applyEdits(text []byte, edits []edit) ([]byte, error) {
	edits = slices.Clone(edits)
	slices.SortStableFunc(edits, func(a, b edit) int { return a.Span.Start.Offset - b.Span.Start.Offset })
	size, last := len(text), 0
	for _, e := range edits {
		start, end := e.Span.Start.Offset, e.Span.End.Offset
		if start < last || end < start || end > len(text) {
			return nil, errs.Errorf(errs.Unprocessable, "the delta has an edit outside of the checkpoint, or two that overlap: send a whole checkpoint")
		}
		size, last = size+len(e.NewText)-(end-start), end
	}
	if int64(size) > httpapi.Large.Decoded {
		return nil, errs.Errorf(errs.TooLarge, "the checkpoint would be larger than the %d bytes allowed", httpapi.Large.Decoded)
	}
	var out bytes.Buffer
	out.Grow(size)
	last = 0
	for _, e := range edits {
		out.Write(text[last:e.Span.Start.Offset])
		out.WriteString(e.NewText)
		last = e.Span.End.Offset
	}
	out.Write(text[last:])
	return out.Bytes(), nil
}
