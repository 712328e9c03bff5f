package identity

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"time"

	"gorm.io/gorm"

	"github.com/ipuka/ipuka/internal/database"
	"github.com/ipuka/ipuka/internal/errs"
)

type sessionRow struct {
	ID         string
	Hash       []byte
	UserID     string
	Connector  string
	Generation int64
	Created    int64
	LastSeen   int64
	Expires    int64
	Ended      int64
	Address    string
	UserAgent  string
}

func (sessionRow) TableName() string { return "sessions" }

func (r sessionRow) session() Session {
	return Session{
		ID: r.ID, Connector: r.Connector, Created: database.Time(r.Created), LastSeen: database.Time(r.LastSeen),
		Expires: database.Time(r.Expires), Address: r.Address, UserAgent: r.UserAgent,
	}
}

type tokenRow struct {
	ID          string
	Hash        []byte
	UserID      string
	Description string
	Tail        string
	Nonce       *string
	Created     int64
	Expires     int64
	LastUsed    int64
	Revoked     int64
}

func (tokenRow) TableName() string { return "tokens" }

func (r tokenRow) token() Token {
	return Token{
		ID: r.ID, Description: r.Description, Tail: r.Tail, Created: database.Time(r.Created),
		Expires: database.Time(r.Expires), LastUsed: database.Time(r.LastUsed), Revoked: database.Time(r.Revoked),
	}
}

// owner is the part of a credential's row that says whose it is.
type owner struct {
	UserID     string
	Login      string
	Name       string
	Email      string
	AvatarURL  string
	SiteAdmin  bool
	ManagedBy  string
	Disabled   int64
	Generation int64
	Now        int64 // by the clock that expiries are judged by
}

const ownerColumns = "u.id, u.login, u.name, u.email, u.avatar_url, u.site_admin, u.managed_by, u.disabled, u.generation"

// columns is where ownerColumns are scanned to.
func (o *owner) columns() []any {
	return []any{&o.UserID, &o.Login, &o.Name, &o.Email, &o.AvatarURL, &o.SiteAdmin, &o.ManagedBy, &o.Disabled, &o.Generation}
}

func (o *owner) principal() Principal {
	return Principal{
		UserID: o.UserID, Login: o.Login, Name: o.Name, Email: o.Email, AvatarURL: o.AvatarURL,
		SiteAdmin: o.SiteAdmin, ManagedBy: o.ManagedBy,
	}
}

type sessionOwner struct {
	Owner             owner
	SessionID         string
	Connector         string
	SessionGeneration int64
	Created           int64
	LastSeen          int64
	Expires           int64
	Ended             int64
}

func (s store) insertSession(ctx context.Context, v Session, userID string, hash []byte, generation int64) error {
	return gorm.G[sessionRow](s.db.Conn(ctx)).Create(ctx, &sessionRow{
		ID: v.ID, Hash: hash, UserID: userID, Connector: v.Connector, Generation: generation,
		Created: database.Micros(v.Created), LastSeen: database.Micros(v.LastSeen), Expires: database.Micros(v.Expires),
		Address: v.Address, UserAgent: v.UserAgent,
	})
}

func (s store) sessionByHash(ctx context.Context, hash []byte) (sessionOwner, bool, error) {
	now, args := s.clockColumn()
	var row sessionOwner
	found, err := s.db.QueryRow(ctx, "SELECT "+ownerColumns+", s.id, s.connector, s.generation, s.created, s.last_seen, s.expires, s.ended, "+now+
		" FROM sessions s JOIN users u ON u.id = s.user_id WHERE s.hash = ?", append(args, hash),
		append(row.Owner.columns(), &row.SessionID, &row.Connector, &row.SessionGeneration, &row.Created,
			&row.LastSeen, &row.Expires, &row.Ended, &row.Owner.Now)...)
	return row, found, err
}

// touchSession moves the idle limit on, and reports whether the session still goes on.
func (s store) touchSession(ctx context.Context, id string, now int64) (bool, error) {
	result := s.db.Conn(ctx).Exec(`UPDATE sessions SET last_seen = CASE WHEN last_seen < ? THEN ? ELSE last_seen END
		WHERE id = ? AND ended = 0`, now, now, id)
	return result.RowsAffected == 1, result.Error
}

func (s store) sessions(ctx context.Context, userID string) ([]Session, error) {
	now, err := s.clock(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := gorm.G[sessionRow](s.db.Reader(ctx)).
		Where("user_id = ? AND ended = 0 AND expires > ? AND last_seen > ?", userID, database.Micros(now), database.Micros(now.Add(-IdleTimeout))).
		Where("generation = (SELECT generation FROM users WHERE id = ?)", userID).
		Order("created DESC, id DESC").Find(ctx)
	out := make([]Session, len(rows))
	for i, row := range rows {
		out[i] = row.session()
	}
	return out, err
}

func (s store) endSession(ctx context.Context, userID, id string, now time.Time) (bool, error) {
	n, err := gorm.G[sessionRow](s.db.Conn(ctx)).Where("id = ? AND user_id = ? AND ended = 0", id, userID).Update(ctx, "ended", database.Micros(now))
	return n == 1, err
}

// endSessions ends every session of a user. The new generation catches the one that
// another transaction is about to insert.
func (s store) endSessions(ctx context.Context, userID string, now time.Time) error {
	if err := s.db.Conn(ctx).Exec("UPDATE users SET generation = generation + 1 WHERE id = ?", userID).Error; err != nil {
		return err
	}
	return s.db.Conn(ctx).Exec("UPDATE sessions SET ended = ? WHERE user_id = ? AND ended = 0", database.Micros(now), userID).Error
}

// endSessionsOf ends the sessions of a user that began with a connector.
func (s store) endSessionsOf(ctx context.Context, userID, connector string, now time.Time) (int64, error) {
	result := s.db.Conn(ctx).Exec("UPDATE sessions SET ended = ? WHERE user_id = ? AND connector = ? AND ended = 0", database.Micros(now), userID, connector)
	return result.RowsAffected, result.Error
}

// sweepSessions deletes up to limit sessions that nobody can use any more.
func (s store) sweepSessions(ctx context.Context, now int64, limit int) (int64, error) {
	result := s.db.Conn(ctx).Exec(`DELETE FROM sessions WHERE id IN
		(SELECT id FROM sessions WHERE expires <= ? OR last_seen <= ? LIMIT ?)`, now, now-IdleTimeout.Microseconds(), limit)
	return result.RowsAffected, result.Error
}

type tokenOwner struct {
	Owner       owner
	TokenID     string
	Description string
	Expires     int64
	LastUsed    int64
	Revoked     int64
}

func (s store) insertToken(ctx context.Context, t Token, userID string, hash []byte, nonce *string) error {
	err := gorm.G[tokenRow](s.db.Conn(ctx)).Create(ctx, &tokenRow{
		ID: t.ID, Hash: hash, UserID: userID, Description: t.Description, Tail: t.Tail, Nonce: nonce,
		Created: database.Micros(t.Created), Expires: database.Micros(t.Expires),
	})
	return taken(err, "this login request has been used: run pulumi login again")
}

func (s store) tokenByHash(ctx context.Context, hash []byte) (tokenOwner, bool, error) {
	now, args := s.clockColumn()
	var row tokenOwner
	found, err := s.db.QueryRow(ctx, "SELECT "+ownerColumns+", t.id, t.description, t.expires, t.last_used, t.revoked, "+now+
		" FROM tokens t JOIN users u ON u.id = t.user_id WHERE t.hash = ?", append(args, hash),
		append(row.Owner.columns(), &row.TokenID, &row.Description, &row.Expires, &row.LastUsed, &row.Revoked, &row.Owner.Now)...)
	return row, found, err
}

func (s store) token(ctx context.Context, userID, id string) (Token, error) {
	row, err := gorm.G[tokenRow](s.db.Reader(ctx)).Where("id = ? AND user_id = ?", id, userID).Take(ctx)
	return row.token(), missing(err, errNoToken())
}

func (s store) tokens(ctx context.Context, userID string, filter TokenFilter, now int64, after []string, limit int) ([]Token, error) {
	query := gorm.G[tokenRow](s.db.Reader(ctx)).Where("user_id = ? AND revoked = 0", userID)
	switch filter {
	case ActiveTokens:
		query = query.Where("(expires = 0 OR expires > ?)", now)
	case ExpiredTokens:
		query = query.Where("expires <> 0 AND expires <= ?", now)
	}
	if after[1] != "" {
		created, err := strconv.ParseInt(after[0], 10, 64)
		if err != nil {
			return nil, errs.Errorf(errs.Invalid, "the continuation token is not one of this list")
		}
		query = query.Where("(created < ? OR (created = ? AND id < ?))", created, created, after[1])
	}
	rows, err := query.Order("created DESC, id DESC").Limit(limit).Find(ctx)
	out := make([]Token, len(rows))
	for i, row := range rows {
		out[i] = row.token()
	}
	return out, err
}

func (s store) revokeToken(ctx context.Context, userID, id string, now time.Time) (bool, error) {
	n, err := gorm.G[tokenRow](s.db.Conn(ctx)).Where("id = ? AND user_id = ? AND revoked = 0", id, userID).Update(ctx, "revoked", database.Micros(now))
	return n == 1, err
}

// useBatch bounds the rows that one transaction of a flush updates.
const useBatch = 500

// setLastUsed writes down when tokens were used. The IDs are sorted so that replicas
// that flush at once lock the rows in the same order.
func (s store) setLastUsed(ctx context.Context, at map[string]int64) error {
	for ids := range slices.Chunk(slices.Sorted(maps.Keys(at)), useBatch) {
		err := s.db.Tx(ctx, func(ctx context.Context) error {
			for _, id := range ids {
				err := s.db.Conn(ctx).Exec("UPDATE tokens SET last_used = ? WHERE id = ? AND last_used < ?", at[id], id, at[id]).Error
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
