package mail

import (
	"context"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/ipuka/ipuka/internal/database"
	"github.com/ipuka/ipuka/internal/errs"
)

type outboxRow struct {
	ID        string
	Kind      string
	Recipient string
	Subject   string
	Body      []byte
	Created   int64
	Expires   int64
	Attempts  int64
	Due       int64
	Claim     string
	Failed    int64
	Error     string
}

func (outboxRow) TableName() string { return "mail_outbox" }

// context binds a body to its row and to whom it is for: a body moved to another row
// does not open.
func (r outboxRow) context() string { return r.ID + "\n" + r.Recipient }

func (r outboxRow) waiting() Waiting {
	return Waiting{
		ID: r.ID, Kind: r.Kind, To: r.Recipient, Subject: r.Subject, Error: r.Error,
		Created: database.Time(r.Created), Expires: database.Time(r.Expires), Failed: database.Time(r.Failed),
	}
}

type store struct {
	db  *database.DB
	now func() time.Time
}

func (s store) clock(ctx context.Context) (time.Time, error) {
	if s.now != nil {
		return s.now().UTC().Truncate(time.Microsecond), nil
	}
	return s.db.Now(ctx)
}

func (s store) insert(ctx context.Context, row outboxRow) error {
	return gorm.G[outboxRow](s.db.Conn(ctx)).Create(ctx, &row)
}

// claim gives the caller up to limit due mails until a time. Of two replicas that
// find the same row due, the second waits for the first and finds it moved on.
func (s store) claim(ctx context.Context, claim string, now, until int64, limit int) ([]outboxRow, error) {
	result := s.db.Conn(ctx).Exec(`UPDATE mail_outbox SET claim = ?, due = ?, attempts = attempts + 1
		WHERE failed = 0 AND due <= ? AND id IN
		(SELECT id FROM mail_outbox WHERE failed = 0 AND due <= ? AND expires > ? ORDER BY due LIMIT ?)`, claim, until, now, now, now, limit)
	if result.Error != nil || result.RowsAffected == 0 {
		return nil, result.Error
	}
	return gorm.G[outboxRow](s.db.Conn(ctx)).Where("claim = ? AND failed = 0", claim).Order("created, id").Find(ctx)
}

// delivered forgets a mail, whoever has claimed it meanwhile.
func (s store) delivered(ctx context.Context, id string) error {
	return s.db.Conn(ctx).Exec("DELETE FROM mail_outbox WHERE id = ?", id).Error
}

// postpone lets a mail go until due. One that another has claimed is theirs.
func (s store) postpone(ctx context.Context, row outboxRow, due, attempts int64, text string) error {
	return s.db.Conn(ctx).Exec(`UPDATE mail_outbox SET due = ?, attempts = ?, error = ?, claim = ''
		WHERE id = ? AND claim = ? AND failed = 0`, due, attempts, text, row.ID, row.Claim).Error
}

// fail gives a mail up: its body goes.
func (s store) fail(ctx context.Context, row outboxRow, now int64, text string) error {
	return s.db.Conn(ctx).Exec(`UPDATE mail_outbox SET body = NULL, failed = ?, error = ?, claim = ''
		WHERE id = ? AND claim = ? AND failed = 0`, now, text, row.ID, row.Claim).Error
}

// expire takes the bodies of the mails that are not worth delivering any more.
func (s store) expire(ctx context.Context, now int64) (int64, error) {
	result := s.db.Conn(ctx).Exec(`UPDATE mail_outbox SET body = NULL, failed = ?, claim = '',
		error = CASE WHEN error = '' THEN ? ELSE error END WHERE failed = 0 AND expires <= ?`,
		now, "it expired before it was delivered", now)
	return result.RowsAffected, result.Error
}

// sweep deletes what expired before a time.
func (s store) sweep(ctx context.Context, before int64) error {
	return s.db.Conn(ctx).Exec("DELETE FROM mail_outbox WHERE expires <= ? AND failed <> 0", before).Error
}

// due returns when the next mail is to be tried, 0 for none.
func (s store) due(ctx context.Context) (int64, error) {
	var due int64
	_, err := s.db.QueryRow(ctx, "SELECT COALESCE(MIN(due), 0) FROM mail_outbox WHERE failed = 0", nil, &due)
	return due, err
}

func (s store) remove(ctx context.Context, id string) (bool, error) {
	n, err := gorm.G[outboxRow](s.db.Conn(ctx)).Where("id = ?", id).Delete(ctx)
	return n == 1, err
}

func (s store) counts(ctx context.Context) (waiting, failed int64, err error) {
	_, err = s.db.QueryRow(ctx, `SELECT COALESCE(SUM(CASE WHEN failed = 0 THEN 1 ELSE 0 END), 0),
		COALESCE(SUM(CASE WHEN failed <> 0 THEN 1 ELSE 0 END), 0) FROM mail_outbox`, nil, &waiting, &failed)
	return waiting, failed, err
}

// page returns up to limit mails after cursor, and the cursor of the next page.
func (s store) page(ctx context.Context, cursor string, limit int) ([]outboxRow, string, error) {
	query := gorm.G[outboxRow](s.db.Reader(ctx)).Order("created, id").Limit(limit + 1)
	if cursor != "" {
		created, id, err := decodeCursor(cursor)
		if err != nil {
			return nil, "", err
		}
		query = query.Where("created > ? OR (created = ? AND id > ?)", created, created, id)
	}
	rows, err := query.Find(ctx)
	if err != nil || len(rows) <= limit {
		return rows, "", err
	}
	rows = rows[:limit]
	last := rows[limit-1]
	return rows, base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%d\n%s", last.Created, last.ID)), nil
}

func decodeCursor(cursor string) (int64, string, error) {
	text, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	number, id, ok := strings.Cut(string(text), "\n")
	created, parseErr := strconv.ParseInt(number, 10, 64)
	if err != nil || parseErr != nil || !ok || len(id) != 36 || bad(id) {
		return 0, "", errs.Errorf(errs.Invalid, "the continuation token is not one of this list")
	}
	return created, id, nil
}
