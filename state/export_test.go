package state

// Edit and ApplyEdits are the parser of checkpoint deltas, for its own tests.
type Edit = edit

var ApplyEdits = applyEdits

func NewEdit(start, end int, text string) Edit {
	var e edit
	e.Span.Start.Offset, e.Span.End.Offset, e.NewText = start, end, text
	return e
}
