package scim

import (
	"context"
	"errors"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/ipuka/ipuka/internal/database"
	"github.com/ipuka/ipuka/internal/errs"
)

// store is all SQL of this package. Its methods join the transaction of ctx.
//
// It reads two tables of package identity, teams and team_members, so that a page of
// groups or users with their members or groups takes one query more and not one for
// each. It never writes them.
type store struct {
	db  *database.DB
	now func() time.Time
}

// clock returns the time that changes are noted with.
func (s store) clock(ctx context.Context) (time.Time, error) {
	if s.now != nil {
		return s.now().UTC().Truncate(time.Microsecond), nil
	}
	return s.db.Now(ctx)
}

type tokenRow struct {
	OrganizationID string `gorm:"primaryKey"`
	ID             string
	Hash           []byte
	Tail           string
	Created        int64
	CreatedBy      string
	LastUsed       int64
}

func (tokenRow) TableName() string { return "scim_tokens" }

func (r tokenRow) token() Token {
	return Token{ID: r.ID, Tail: r.Tail, By: r.CreatedBy, Created: database.Time(r.Created), LastUsed: database.Time(r.LastUsed)}
}

// putToken makes row the token of its organization, instead of the one before.
func (s store) putToken(ctx context.Context, row tokenRow) error {
	err := s.db.Conn(ctx).Exec(`INSERT INTO scim_tokens (organization_id, id, hash, tail, created, created_by, last_used)
		VALUES (?, ?, ?, ?, ?, ?, 0)
		ON CONFLICT (organization_id) DO UPDATE SET id = excluded.id, hash = excluded.hash, tail = excluded.tail,
			created = excluded.created, created_by = excluded.created_by, last_used = 0`,
		row.OrganizationID, row.ID, row.Hash, row.Tail, row.Created, row.CreatedBy).Error
	if errors.Is(err, gorm.ErrForeignKeyViolated) {
		return errs.Errorf(errs.NotFound, "there is no such organization")
	}
	return err
}

func (s store) token(ctx context.Context, organizationID string) (tokenRow, error) {
	row, err := gorm.G[tokenRow](s.db.Reader(ctx)).Where("organization_id = ?", organizationID).Take(ctx)
	return row, missing(err, errNoToken())
}

func (s store) deleteToken(ctx context.Context, organizationID string) error {
	n, err := gorm.G[tokenRow](s.db.Conn(ctx)).Where("organization_id = ?", organizationID).Delete(ctx)
	if err == nil && n != 1 {
		return errNoToken()
	}
	return err
}

// useToken notes when a token was used last.
func (s store) useToken(ctx context.Context, id string, at time.Time) error {
	return s.db.Conn(ctx).Exec("UPDATE scim_tokens SET last_used = ? WHERE id = ? AND last_used < ?",
		database.Micros(at), id, database.Micros(at)).Error
}

// missing gives the absence of a row the error otherwise.
func missing(err, otherwise error) error {
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return otherwise
	}
	return err
}

// conflict gives the violation of a unique constraint the error otherwise.
func conflict(err, otherwise error) error {
	if errors.Is(err, gorm.ErrDuplicatedKey) {
		return otherwise
	}
	return err
}

// condition is a part of a WHERE clause with the values to bind. exact says that it
// selects what the filter does, and not more.
type condition struct {
	sql   string
	args  []any
	exact bool
}

// columns says how one kind of resource is searched: the condition for a comparison
// by "eq" with a text, by the attribute in lower case.
type columns map[string]func(text string) condition

// where returns a condition that everything selects which satisfies f; ok is false
// when there is none but "all".
func (c columns) where(f *filter, schema string) (cond condition, ok bool) {
	switch {
	case f == nil:
		return condition{exact: true}, false
	case f.kind == filterAnd:
		return both(f, func(f *filter) (condition, bool) { return c.where(f, schema) })
	case f.kind == filterOr:
		left, one := c.where(f.left, schema)
		right, two := c.where(f.right, schema)
		return condition{
			sql: "(" + left.sql + " OR " + right.sql + ")", args: append(left.args, right.args...), exact: left.exact && right.exact,
		}, one && two
	case f.kind == filterNot:
		inner, ok := c.where(f.left, schema)
		inner.sql = "NOT (" + inner.sql + ")"
		return inner, ok && inner.exact
	case f.op != "eq" || f.path.schema != "" && !strings.EqualFold(f.path.schema, schema):
		return condition{}, false
	}
	name := fold(f.path.name)
	if f.path.sub != "" {
		name += "." + fold(f.path.sub)
	}
	column, found := c[name]
	fits := f.value.kind == literalString || f.value.kind == literalBool && name == "active"
	if !found || !fits || f.value.text == "" || strings.ContainsRune(f.value.text, 0) { // PostgreSQL has no text with a NUL
		return condition{}, false
	}
	cond = column(f.value.text)
	cond.exact = cond.exact && f.kind == filterCompare
	return cond, cond.sql != ""
}

// both is where for "and": half of it is better than nothing.
func both(f *filter, where func(*filter) (condition, bool)) (condition, bool) {
	left, one := where(f.left)
	right, two := where(f.right)
	switch {
	case one && two:
		return condition{
			sql: "(" + left.sql + " AND " + right.sql + ")", args: append(left.args, right.args...), exact: left.exact && right.exact,
		}, true
	case one:
		left.exact = false
		return left, true
	default:
		right.exact = false
		return right, two
	}
}

// column returns the condition of a column that has to be equal to a text.
func column(name string, spell func(string) string) func(string) condition {
	return func(text string) condition {
		if spell != nil {
			text = spell(text)
		}
		return condition{sql: name + " = ?", args: []any{text}, exact: true}
	}
}

// escape makes text match itself in LIKE … ESCAPE '!'.
var escape = strings.NewReplacer("!", "!!", "%", "!%", "_", "!_")

// page is a part of a list.
type page struct {
	where         condition
	byName        bool // in the order of names, not of creation
	descending    bool
	offset, limit int
}

// order returns the ORDER BY of a page. Who comes later is at the end, so that pages do
// not shift while resources are added.
func (p page) order(name, id string) string {
	direction := ""
	if p.descending {
		direction = " DESC"
	}
	if p.byName {
		return name + direction
	}
	return "r.created" + direction + ", " + id + direction
}

// inBatch bounds the values of one IN (…).
const inBatch = 500
