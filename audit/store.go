package audit

import (
	"context"
	"math"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/ipuka/ipuka/internal/database"
	"github.com/ipuka/ipuka/internal/errs"
)

// pending is a record on its way into a log.
type pending struct {
	log  string
	leaf *leaf

	ref Ref   // its place, once written
	err error // why this one alone was refused
}

// record is a row of audit_records.
type record struct {
	idx            int64
	event, login   *string
	object, result *string
	eventIndex     *int64
	leaf           []byte
}

type head struct {
	Size int64
	Time int64
	Now  int64
}

// write appends the records of one log, in order, in the transaction of ctx. It sets
// ref or err of each. The error is that of the database, and then nothing is written.
//
// The row of the head is locked first: on PostgreSQL replicas take turns there, so
// that indexes have no gap and times never decrease.
func (l *Log) write(ctx context.Context, log string, batch []*pending) error {
	for _, p := range batch { // a transaction may run again
		p.ref, p.err = Ref{}, nil
	}
	h, err := l.lockHead(ctx, log)
	if err != nil {
		return err
	}
	if err := l.checkOutcomes(ctx, log, batch); err != nil {
		return err
	}
	at := max(h.Now, h.Time)
	rows := make([]record, 0, len(batch))
	for _, p := range batch {
		if p.err != nil {
			continue
		}
		p.ref = Ref{Log: log, Index: h.Size + int64(len(rows))}
		row, err := p.leaf.row(p.ref, database.Time(at))
		if err != nil {
			return err
		}
		rows = append(rows, row)
	}
	if len(rows) == 0 {
		return nil
	}
	if err := l.insert(ctx, log, at, rows); err != nil {
		return err
	}
	done := l.db.Conn(ctx).Exec("UPDATE audit_heads SET size = ?, time = ? WHERE log = ? AND size = ?",
		h.Size+int64(len(rows)), at, log, h.Size)
	if done.Error == nil && done.RowsAffected != 1 {
		return errs.Errorf(errs.Unavailable, "the audit log is being written by another process, try again")
	}
	return done.Error
}

func (l *Log) lockHead(ctx context.Context, log string) (head, error) {
	query := "SELECT size, time, 0 AS now FROM audit_heads WHERE log = ?"
	if l.db.Dialect() == database.PostgreSQL {
		query = "SELECT size, time, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now FROM audit_heads WHERE log = ? FOR UPDATE"
	}
	for range 2 {
		var heads []head
		if err := l.db.Conn(ctx).Raw(query, log).Scan(&heads).Error; err != nil {
			return head{}, err
		}
		if len(heads) == 1 {
			if l.db.Dialect() == database.SQLite {
				now, err := l.db.Now(ctx)
				heads[0].Now = database.Micros(now)
				return heads[0], err
			}
			return heads[0], nil
		}
		err := l.db.Conn(ctx).Exec("INSERT INTO audit_heads (log, size, time) VALUES (?, 0, 0) ON CONFLICT DO NOTHING", log).Error
		if err != nil {
			return head{}, err
		}
	}
	return head{}, errs.Errorf(errs.Unavailable, "the audit log has no head, try again")
}

// checkOutcomes refuses those outcomes in batch whose event is not there or has an
// outcome already.
func (l *Log) checkOutcomes(ctx context.Context, log string, batch []*pending) error {
	var of []int64
	for _, p := range batch {
		if p.leaf.Of != nil {
			of = append(of, *p.leaf.Of)
		}
	}
	if len(of) == 0 {
		return nil
	}
	var open []int64
	err := l.db.Conn(ctx).Raw(`SELECT e.idx FROM audit_records e WHERE e.log = ? AND e.idx IN ? AND e.event IS NOT NULL AND e.result IS NULL
		AND NOT EXISTS (SELECT 1 FROM audit_records o WHERE o.log = e.log AND o.event_index = e.idx)`, log, of).Scan(&open).Error
	if err != nil {
		return err
	}
	free := make(map[int64]bool, len(open))
	for _, index := range open {
		free[index] = true
	}
	for _, p := range batch {
		if p.leaf.Of == nil {
			continue
		}
		if !free[*p.leaf.Of] {
			p.err = errs.Errorf(errs.Conflict, "audit record %d of log %s is not an event without an outcome", *p.leaf.Of, log)
		}
		delete(free, *p.leaf.Of) // a second outcome in the same batch is one too many
	}
	return nil
}

// row returns the row of f at its place.
func (f *leaf) row(ref Ref, at time.Time) (record, error) {
	data, err := f.encode(ref, at)
	if err != nil {
		return record{}, err
	}
	r := record{idx: ref.Index, leaf: data, eventIndex: f.Of}
	if f.Kind == kindEvent {
		login := strings.ToLower(f.Actor.Login)
		r.event, r.login, r.object = &f.Event, &login, &f.Object
	}
	if f.Outcome != nil {
		r.result = (*string)(&f.Outcome.Result)
	}
	return r, nil
}

func (l *Log) insert(ctx context.Context, log string, at int64, rows []record) error {
	var text strings.Builder
	text.WriteString("INSERT INTO audit_records (log, idx, time, event, login, object, result, event_index, leaf) VALUES ")
	args := make([]any, 0, 9*len(rows))
	for i, r := range rows {
		if i > 0 {
			text.WriteString(", ")
		}
		text.WriteString("(?, ?, ?, ?, ?, ?, ?, ?, ?)")
		args = append(args, log, r.idx, at, r.event, r.login, r.object, r.result, r.eventIndex, r.leaf)
	}
	return l.db.Conn(ctx).Exec(text.String(), args...).Error
}

// found is an event with the record of its outcome.
type found struct {
	Idx         int64
	Leaf        []byte
	OutcomeLeaf []byte
}

// find returns up to limit events of log below the index before, newest first.
func (l *Log) find(ctx context.Context, log string, f filter, before int64, limit int) ([]found, error) {
	conn := l.db.Reader(ctx).Table("audit_records AS e").
		Select("e.idx AS idx, e.leaf AS leaf, o.leaf AS outcome_leaf").
		Joins("LEFT JOIN audit_records AS o ON o.log = e.log AND o.event_index = e.idx").
		Where("e.log = ?", log).Where("e.event IS NOT NULL").Where("e.idx < ?", before)
	conn, err := l.between(ctx, conn, log, f)
	if err != nil {
		return nil, err
	}
	if f.Event != "" {
		conn = conn.Where("e.event = ?", f.Event)
	}
	if f.User != "" {
		conn = conn.Where("e.login = ?", f.User)
	}
	if f.Object != "" {
		conn = conn.Where("e.object = ?", f.Object)
	}
	if f.Result != "" {
		conn = conn.Where("COALESCE(e.result, o.result, 'unknown') = ?", string(f.Result))
	}
	var rows []found
	err = conn.Order("e.idx DESC").Limit(limit).Scan(&rows).Error
	return rows, err
}

// between narrows a query to the indexes of f's time range. Times never decrease
// within a log, so the range is one of indexes, and the list can be read from its
// end without passing over what is newer.
func (l *Log) between(ctx context.Context, conn *gorm.DB, log string, f filter) (*gorm.DB, error) {
	from, found, err := l.firstAt(ctx, log, f.From)
	if err != nil {
		return nil, err
	}
	if !found {
		return conn.Where("1 = 0"), nil // nothing is as new as that
	}
	conn = conn.Where("e.idx >= ?", from)
	if f.To == math.MaxInt64 {
		return conn, nil
	}
	to, found, err := l.firstAt(ctx, log, f.To)
	if err != nil || !found {
		return conn, err
	}
	return conn.Where("e.idx < ?", to), nil
}

// firstAt returns the index of the first record at or after micros.
func (l *Log) firstAt(ctx context.Context, log string, micros int64) (index int64, found bool, err error) {
	if micros == math.MinInt64 {
		return 0, true, nil
	}
	var first []int64
	err = l.db.Reader(ctx).Raw("SELECT idx FROM audit_records WHERE log = ? AND time >= ? ORDER BY time, idx LIMIT 1", log, micros).Scan(&first).Error
	if err != nil || len(first) == 0 {
		return 0, false, err
	}
	return first[0], true, nil
}
