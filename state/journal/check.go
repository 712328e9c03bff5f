package journal

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/ipuka/ipuka/internal/errs"
)

// Gap is the error of a journal that lacks entries. Its kind is errs.Conflict.
// A journal that lacks its end cannot be told from a shorter one.
type Gap struct {
	Missing int64 // the first sequence number that is missing
	Count   int64 // how many are missing below Last
	Last    int64 // the highest sequence number that is there
}

// Error says which entries are missing. The text is public.
func (g *Gap) Error() string {
	if g.Count == 1 {
		return fmt.Sprintf("the journal lacks entry %d of %d", g.Missing, g.Last)
	}
	return fmt.Sprintf("the journal lacks %d of %d entries, the first is %d", g.Count, g.Last, g.Missing)
}

// Unwrap makes the gap an errs.Conflict with a public text.
func (g *Gap) Unwrap() error { return errs.Errorf(errs.Conflict, "%s", g.Error()) }

// Check returns nil when the sequence numbers are exactly 1 to the highest, a *Gap
// when some are missing, and an errs.Conflict when two entries share a number and
// differ; the conflict is the more serious and is reported first. An empty journal is
// complete.
func Check(entries []Entry) error {
	_, gap, err := arrange(entries)
	if err != nil {
		return err
	}
	if gap != nil {
		return gap
	}
	return nil
}

// arrange returns the entries in sequence, each once, and the gap if there is one.
func arrange(entries []Entry) ([]*Entry, *Gap, error) {
	sorted := make([]*Entry, len(entries))
	for i := range entries {
		sorted[i] = &entries[i]
	}
	bySequence := func(a, b *Entry) int { return cmp.Compare(a.sequence, b.sequence) }
	if !slices.IsSortedFunc(sorted, bySequence) {
		slices.SortStableFunc(sorted, bySequence)
	}
	var gap *Gap
	once := sorted[:0]
	next := int64(1)
	for _, e := range sorted {
		if len(once) > 0 && e.sequence == once[len(once)-1].sequence {
			if !e.Equal(*once[len(once)-1]) {
				return nil, nil, errs.Errorf(errs.Conflict, "journal entry %d is there twice with different content", e.sequence)
			}
			continue
		}
		if e.sequence != next {
			if gap == nil {
				gap = &Gap{Missing: next}
			}
			gap.Count += e.sequence - next
		}
		next = e.sequence + 1
		once = append(once, e)
	}
	if gap != nil {
		gap.Last = next - 1
	}
	return once, gap, nil
}
