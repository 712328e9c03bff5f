package audit

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"strings"

	"github.com/ipuka/ipuka/internal/database"
	"github.com/ipuka/ipuka/internal/errs"
)

const (
	defaultLimit = 100
	maxLimit     = 1000
)

// filter is a Query in the form that the store compares with.
type filter struct {
	Event, User, Object string
	Result              Result
	From, To            int64
}

// List returns a page of log, newest first. An event name, result or cursor that
// does not exist is errs.Invalid. A list stays consistent while records are added:
// they are newer than its first page.
func (l *Log) List(ctx context.Context, log string, q Query) (Page, error) {
	f, err := q.filter()
	if err != nil {
		return Page{}, err
	}
	before := int64(math.MaxInt64)
	if q.Cursor != "" {
		if before, err = f.open(log, q.Cursor); err != nil {
			return Page{}, err
		}
	}
	limit := q.Limit
	if limit <= 0 {
		limit = defaultLimit
	}
	limit = min(limit, maxLimit)
	rows, err := l.find(ctx, log, f, before, limit+1)
	if err != nil {
		return Page{}, fmt.Errorf("listing the audit log: %w", err)
	}
	page := Page{}
	if len(rows) > limit {
		rows = rows[:limit]
		page.Next = f.seal(log, rows[limit-1].Idx)
	}
	page.Entries = make([]Entry, len(rows))
	for i, row := range rows {
		if page.Entries[i], err = decode(row.Leaf, row.OutcomeLeaf); err != nil {
			return Page{}, err
		}
	}
	return page, nil
}

// filter returns q as the store compares it: with the texts as records keep them.
func (q Query) filter() (filter, error) {
	f := filter{
		User: strings.ToLower(clean(q.User)), Object: clean(q.Object), Result: q.Result,
		From: math.MinInt64, To: math.MaxInt64,
	}
	if q.Event != "" {
		name, ok := Lookup(q.Event)
		if !ok {
			return filter{}, errs.Errorf(errs.Invalid, "no audit event is called %q", clean(q.Event))
		}
		f.Event = name
	}
	switch q.Result {
	case "", Succeeded, Failed, Unknown:
	default:
		return filter{}, errs.Errorf(errs.Invalid, "an outcome is succeeded, failed or unknown, not %q", clean(string(q.Result)))
	}
	if !q.From.IsZero() {
		f.From = database.Micros(q.From)
	}
	if !q.To.IsZero() {
		f.To = database.Micros(q.To)
	}
	return f, nil
}

// A cursor is an index and a digest of the log and the filter. It needs no key: it
// opens nothing that its bearer may not list anyway, and the digest is there so that
// a cursor of another list is refused and not answered with a wrong page.
const cursorSize = 8 + 16

func (f filter) seal(log string, index int64) string {
	raw := binary.BigEndian.AppendUint64(make([]byte, 0, cursorSize), uint64(index))
	return base64.RawURLEncoding.EncodeToString(append(raw, f.digest(log)...))
}

func (f filter) open(log, cursor string) (int64, error) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	if err != nil || strings.ContainsAny(cursor, "\r\n") || // which the decoder passes over
		len(raw) != cursorSize || subtle.ConstantTimeCompare(raw[8:], f.digest(log)) != 1 {
		return 0, errs.Errorf(errs.Invalid, "the continuation token is not from this list with these filters, ask again without it")
	}
	index := binary.BigEndian.Uint64(raw)
	if index > math.MaxInt64 {
		return 0, errs.Errorf(errs.Invalid, "the continuation token is damaged, ask again without it")
	}
	return int64(index), nil
}

// digest is over length-prefixed parts, so that no two lists have the same text.
func (f filter) digest(log string) []byte {
	h := sha256.New()
	for _, part := range []string{"audit cursor 1", log, f.Event, f.User, f.Object, string(f.Result)} {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	fmt.Fprintf(h, "%d %d", f.From, f.To)
	return h.Sum(nil)[:16]
}
