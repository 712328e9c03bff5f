package state

import (
	"context"
	"slices"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/ipuka/ipuka/internal/assertion"
	"github.com/ipuka/ipuka/internal/database"
	"github.com/ipuka/ipuka/internal/errs"
)

type updateRow struct {
	ID                 string `gorm:"primaryKey"`
	StackID            string
	Kind               string
	Preview            bool
	Status             string
	Version            int64
	Created            int64
	Started            int64
	Ended              int64
	Expires            int64
	AuthorID           string
	AuthorLogin        string
	AuthorName         string
	AuthorToken        string
	Message            string
	Environment        []byte
	Config             []byte
	Journaled          bool
	Lease              []byte
	Base               string
	Deployment         string
	Resources          int64
	Changes            []byte
	Outcome            string
	Requested          string
	Note               string
	Checkpoint         string
	CheckpointSequence int64
}

func (updateRow) TableName() string { return "updates" }

func (r updateRow) update() update {
	return update{
		id: r.ID, stackID: r.StackID, kind: r.Kind, preview: r.Preview, status: status(r.Status), version: r.Version,
		created: database.Time(r.Created), started: database.Time(r.Started), ended: database.Time(r.Ended), expires: database.Time(r.Expires),
		author:  assertion.Caller{ID: r.AuthorID, Login: r.AuthorLogin, Name: r.AuthorName, Token: r.AuthorToken},
		message: r.Message, environment: r.Environment, config: r.Config, journaled: r.Journaled, lease: r.Lease,
		base: r.Base, deployment: r.Deployment, resources: r.Resources, changes: r.Changes,
		outcome: status(r.Outcome), requested: r.Requested, note: r.Note,
		checkpoint: r.Checkpoint, checkpointSequence: r.CheckpointSequence,
	}
}

func rowOfUpdate(u update) updateRow {
	return updateRow{
		ID: u.id, StackID: u.stackID, Kind: u.kind, Preview: u.preview, Status: string(u.status), Version: u.version,
		Created: database.Micros(u.created), Started: database.Micros(u.started), Ended: database.Micros(u.ended), Expires: database.Micros(u.expires),
		AuthorID: u.author.ID, AuthorLogin: u.author.Login, AuthorName: u.author.Name, AuthorToken: u.author.Token,
		Message: u.message, Environment: orObject(u.environment), Config: orObject(u.config), Journaled: u.journaled, Lease: orEmpty(u.lease),
		Base: u.base, Deployment: u.deployment, Resources: u.resources, Changes: orObject(u.changes),
		Outcome: string(u.outcome), Requested: u.requested, Note: u.note,
		Checkpoint: u.checkpoint, CheckpointSequence: u.checkpointSequence,
	}
}

func orObject(raw []byte) []byte {
	if len(raw) == 0 {
		return []byte("{}")
	}
	return raw
}

func orEmpty(raw []byte) []byte {
	if raw == nil {
		return []byte{}
	}
	return raw
}

func updatesOf(rows []updateRow) []update {
	updates := make([]update, len(rows))
	for i, row := range rows {
		updates[i] = row.update()
	}
	return updates
}

const noUpdate = "this stack has no update %s"

// update returns an update of the stack.
func (s store) update(ctx context.Context, stackID, id string) (update, error) {
	row, err := one[updateRow](s.db.Reader(ctx).Raw("SELECT * FROM updates WHERE id = ? AND stack_id = ?", id, stackID), noUpdate, id)
	return row.update(), err
}

// leaseColumns are those that say what an update still takes. What was sent when it
// was created is not among them: it can be long.
const leaseColumns = "u.id, u.stack_id, u.preview, u.status, u.started, u.ended, u.expires, u.journaled, u.lease, u.requested, u.note, u.checkpoint, u.checkpoint_sequence"

// leased returns the leaseColumns of an update with the current name of its stack: the
// one read that a call under a lease makes before its body is read.
func (s store) leased(ctx context.Context, id string) (update, stackRef, error) {
	type leasedRow struct {
		Update                      updateRow `gorm:"embedded"`
		Organization, Project, Name string
	}
	row, err := one[leasedRow](s.db.Reader(ctx).Raw(
		"SELECT "+leaseColumns+", s.organization, s.project, s.name FROM updates u JOIN stacks s ON s.id = u.stack_id WHERE u.id = ?", id), noUpdate, id)
	return row.Update.update(), stackRef{row.Organization, row.Project, row.Name}, err
}

// lockUpdate returns an update and keeps every other transaction from changing it.
// Where the stack is locked too, it is locked first.
func (s store) lockUpdate(ctx context.Context, id string) (update, error) {
	row, err := one[updateRow](s.db.Conn(ctx).Raw("SELECT * FROM updates WHERE id = ?"+s.locking(), id), noUpdate, id)
	return row.update(), err
}

// lockLease is lockUpdate for the leaseColumns only.
func (s store) lockLease(ctx context.Context, id string) (update, error) {
	row, err := one[updateRow](s.db.Conn(ctx).Raw("SELECT "+leaseColumns+" FROM updates u WHERE u.id = ?"+s.locking(), id), noUpdate, id)
	return row.update(), err
}

// writer returns the update that holds the stack, if there is one.
func (s store) writer(ctx context.Context, stackID string) (update, bool, error) {
	var rows []updateRow
	err := s.db.Reader(ctx).Raw("SELECT * FROM updates WHERE stack_id = ? AND status IN ('running', 'cancelling', 'closing') AND NOT preview", stackID).Scan(&rows).Error
	if err != nil || len(rows) == 0 {
		return update{}, false, err
	}
	return rows[0].update(), true, nil
}

func (s store) insertUpdate(ctx context.Context, u update) error {
	row := rowOfUpdate(u)
	return gorm.G[updateRow](s.db.Conn(ctx)).Create(ctx, &row)
}

// saveUpdate stores all that changes in the life of an update.
func (s store) saveUpdate(ctx context.Context, u update) error {
	r := rowOfUpdate(u)
	return s.exec(ctx, `UPDATE updates SET status = ?, version = ?, started = ?, ended = ?, expires = ?,
		author_id = ?, author_login = ?, author_name = ?, author_token = ?, journaled = ?, lease = ?, base = ?, deployment = ?,
		resources = ?, changes = ?, outcome = ?, requested = ?, note = ?, checkpoint = ?, checkpoint_sequence = ? WHERE id = ?`,
		r.Status, r.Version, r.Started, r.Ended, r.Expires, r.AuthorID, r.AuthorLogin, r.AuthorName, r.AuthorToken, r.Journaled, r.Lease,
		r.Base, r.Deployment, r.Resources, r.Changes, r.Outcome, r.Requested, r.Note, r.Checkpoint, r.CheckpointSequence, r.ID)
}

// overdue returns the IDs of updates whose time is up or whose end was interrupted.
func (s store) overdue(ctx context.Context, now time.Time, limit int) ([]update, error) {
	var rows []updateRow
	err := s.db.Reader(ctx).Raw(`SELECT * FROM updates WHERE status IN ('not started', 'running', 'cancelling', 'closing')
		AND (expires <= ? OR status = 'closing') ORDER BY expires LIMIT ?`, database.Micros(now), limit).Scan(&rows).Error
	return updatesOf(rows), err
}

// dropUnstarted deletes an update that was created and never started.
func (s store) dropUnstarted(ctx context.Context, id string, now time.Time) error {
	return s.db.Conn(ctx).Exec("DELETE FROM updates WHERE id = ? AND status = 'not started' AND expires <= ?", id, database.Micros(now)).Error
}

// versions returns the updates with versions from first to last, newest first.
func (s store) versions(ctx context.Context, stackID string, first, last int64) ([]update, error) {
	var rows []updateRow
	err := s.db.Reader(ctx).Raw("SELECT * FROM updates WHERE stack_id = ? AND version > 0 AND version BETWEEN ? AND ? ORDER BY version DESC", stackID, first, last).Scan(&rows).Error
	return updatesOf(rows), err
}

// previews returns a page of the started previews of a stack, and their number.
func (s store) previews(ctx context.Context, stackID string, ascending bool, skip, limit int) ([]update, int64, error) {
	var total int64
	if err := s.db.Reader(ctx).Raw("SELECT count(*) FROM updates WHERE stack_id = ? AND preview AND started > 0", stackID).Scan(&total).Error; err != nil {
		return nil, 0, err
	}
	order := "started DESC, id DESC"
	if ascending {
		order = "started, id"
	}
	// The API numbers its pages, so the rows before the page are read and dropped.
	var rows []updateRow
	err := s.db.Reader(ctx).Raw("SELECT * FROM updates WHERE stack_id = ? AND preview AND started > 0 ORDER BY "+order+" LIMIT ?", stackID, skip+limit).Scan(&rows).Error
	return updatesOf(rows[min(skip, len(rows)):]), total, err
}

// insertChunk bounds the rows of one INSERT: SQLite takes 32,766 values, and longer
// statements bring nothing.
const insertChunk = 500

// insertMissing inserts rows (values each) and ignores those whose key is taken. It
// returns how many were new.
func (s store) insertMissing(ctx context.Context, into string, values int, rows [][]any) (int64, error) {
	var inserted int64
	row := "(?" + strings.Repeat(", ?", values-1) + ")"
	for chunk := range slices.Chunk(rows, insertChunk) {
		statement := "INSERT INTO " + into + " VALUES " + row + strings.Repeat(", "+row, len(chunk)-1) + " ON CONFLICT DO NOTHING"
		result := s.db.Conn(ctx).Exec(statement, slices.Concat(chunk...)...)
		if result.Error != nil {
			return 0, result.Error
		}
		inserted += result.RowsAffected
	}
	return inserted, nil
}

type entryRow struct {
	Sequence int64
	Content  []byte
}

// addEntries stores journal entries. One that is there already must be the same, or
// nothing is stored: errs.Conflict.
func (s store) addEntries(ctx context.Context, id string, entries []entryRow) error {
	rows := make([][]any, len(entries))
	for i, entry := range entries {
		rows[i] = []any{id, entry.Sequence, entry.Content}
	}
	inserted, err := s.insertMissing(ctx, "journal_entries (update_id, sequence, content)", 3, rows)
	if err != nil || inserted == int64(len(entries)) {
		return err
	}
	for _, entry := range entries {
		stored, err := one[entryRow](s.db.Conn(ctx).Raw(
			"SELECT sequence, content FROM journal_entries WHERE update_id = ? AND sequence = ?", id, entry.Sequence), "journal entry %d is missing", entry.Sequence)
		if err != nil {
			return err
		}
		if !sameEntry(stored.Content, entry.Content) {
			return errs.Errorf(errs.Conflict, "journal entry %d is stored already and differs from this one", entry.Sequence)
		}
	}
	return nil
}

func (s store) entries(ctx context.Context, id string) ([]entryRow, error) {
	var rows []entryRow
	err := s.db.Reader(ctx).Raw("SELECT sequence, content FROM journal_entries WHERE update_id = ? ORDER BY sequence", id).Scan(&rows).Error
	return rows, err
}

func (s store) dropEntries(ctx context.Context, id string) error {
	return s.db.Conn(ctx).Exec("DELETE FROM journal_entries WHERE update_id = ?", id).Error
}

type eventRow struct {
	Sequence int64
	Type     string
	URN      string
	Content  []byte
}

// addEvents stores engine events and ignores those that are there already.
func (s store) addEvents(ctx context.Context, id string, events []eventRow) error {
	rows := make([][]any, len(events))
	for i, event := range events {
		rows[i] = []any{id, event.Sequence, event.Type, event.URN, event.Content}
	}
	_, err := s.insertMissing(ctx, "engine_events (update_id, sequence, type, urn, content)", 5, rows)
	return err
}

// events returns events after a sequence number, in order.
func (s store) events(ctx context.Context, id string, after int64, types []string, urn string, limit int) ([]eventRow, error) {
	query := "SELECT sequence, type, urn, content FROM engine_events WHERE update_id = ? AND sequence > ?"
	args := []any{id, after}
	if len(types) > 0 {
		query += " AND type IN ?"
		args = append(args, types)
	}
	if urn != "" {
		query += " AND urn = ?"
		args = append(args, urn)
	}
	var rows []eventRow
	err := s.db.Reader(ctx).Raw(query+" ORDER BY sequence LIMIT ?", append(args, limit)...).Scan(&rows).Error
	return rows, err
}

// lastEvent returns the newest event of a type, or of any type when it is "".
func (s store) lastEvent(ctx context.Context, id, kind string) (eventRow, bool, error) {
	var rows []eventRow
	err := s.db.Reader(ctx).Raw("SELECT sequence, type, urn, content FROM engine_events WHERE update_id = ? AND (? = '' OR type = ?) ORDER BY sequence DESC LIMIT 1",
		id, kind, kind).Scan(&rows).Error
	if err != nil || len(rows) == 0 {
		return eventRow{}, false, err
	}
	return rows[0], true, nil
}
