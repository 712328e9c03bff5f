package identity

import (
	"bytes"
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"strconv"
	"time"

	"gorm.io/gorm"

	"github.com/ipuka/ipuka/internal/database"
	"github.com/ipuka/ipuka/internal/errs"
)

// store is all SQL of this package. Its methods join the transaction of ctx.
type store struct {
	db  *database.DB
	now func() time.Time
}

// clock returns the time that expiries are judged by.
func (s store) clock(ctx context.Context) (time.Time, error) {
	if s.now != nil {
		return s.now().UTC().Truncate(time.Microsecond), nil
	}
	return s.db.Now(ctx)
}

// clockColumn returns an expression for the same time within a query, so that the
// hot paths ask the database once, with the value to bind to it.
func (s store) clockColumn() (string, []any) {
	if s.now == nil && s.db.Dialect() == database.PostgreSQL {
		return "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now", nil
	}
	now := time.Now
	if s.now != nil {
		now = s.now
	}
	return "CAST(? AS BIGINT) AS now", []any{now().UnixMicro()}
}

func micros(t time.Time) string { return strconv.FormatInt(database.Micros(t), 10) }

// taken gives the violation of a unique constraint the kind errs.Conflict.
func taken(err error, format string, args ...any) error {
	if errors.Is(err, gorm.ErrDuplicatedKey) {
		return errs.Errorf(errs.Conflict, format, args...)
	}
	return err
}

// missing gives the absence of a row the error otherwise.
func missing(err, otherwise error) error {
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return otherwise
	}
	return err
}

type userRow struct {
	ID         string
	Login      string
	Name       string
	Email      string
	AvatarURL  string
	SiteAdmin  bool
	Disabled   int64
	Generation int64
	Created    int64

	EmailVerified bool
	ManagedBy     string
	DisabledBy    string
	Deleted       int64
}

func (userRow) TableName() string { return "users" }

func (r userRow) user() User {
	return User{
		ID: r.ID, Login: r.Login, Name: r.Name, Email: r.Email, AvatarURL: r.AvatarURL,
		SiteAdmin: r.SiteAdmin, Disabled: database.Time(r.Disabled), Created: database.Time(r.Created),
		EmailVerified: r.EmailVerified, ManagedBy: r.ManagedBy, DisabledBy: r.DisabledBy,
	}
}

type nameRow struct {
	Folded string `gorm:"primaryKey"`
	Kind   string
	Owner  string
}

func (nameRow) TableName() string { return "names" }

type identityRow struct {
	Connector string
	Subject   string
	UserID    string
	Created   int64

	Login      string
	Email      string
	Used       int64
	Groups     string
	Credential nullBytes // sealed; NULL for none
	Checked    int64
	Answered   int64
	Withdrawn  int64
}

func (identityRow) TableName() string { return "identities" }

// nullBytes are bytes that are NULL when there are none. SQLite would store an empty
// value instead, which is not NULL.
type nullBytes []byte

// Value and Scan are for database/sql.
func (b nullBytes) Value() (driver.Value, error) {
	if len(b) == 0 {
		return nil, nil //nolint:nilnil // that is NULL
	}
	return []byte(b), nil
}

func (b *nullBytes) Scan(value any) error {
	switch value := value.(type) {
	case nil:
		*b = nil
	case []byte:
		*b = bytes.Clone(value)
	default:
		return fmt.Errorf("%T is no bytes", value)
	}
	return nil
}

type setupRow struct {
	ID   int64 `gorm:"primaryKey;autoIncrement:false"`
	Code []byte
	Done int64
}

func (setupRow) TableName() string { return "setup" }

func (s store) insertName(ctx context.Context, login, kind, owner string) error {
	err := gorm.G[nameRow](s.db.Conn(ctx)).Create(ctx, &nameRow{Folded: fold(login), Kind: kind, Owner: owner})
	return taken(err, "the name %q is taken, choose another one", login)
}

func (s store) insertUser(ctx context.Context, u User) error {
	if err := s.insertName(ctx, u.Login, "user", u.ID); err != nil {
		return err
	}
	return s.insertUserRow(ctx, u)
}

// insertUserRow adds a user whose name is in the table of names already.
func (s store) insertUserRow(ctx context.Context, u User) error {
	return gorm.G[userRow](s.db.Conn(ctx)).Create(ctx, &userRow{
		ID: u.ID, Login: u.Login, Name: u.Name, Email: u.Email, AvatarURL: u.AvatarURL,
		SiteAdmin: u.SiteAdmin, Disabled: database.Micros(u.Disabled), Generation: 1, Created: database.Micros(u.Created),
		EmailVerified: u.EmailVerified, ManagedBy: u.ManagedBy, DisabledBy: u.DisabledBy,
	})
}

func (s store) user(ctx context.Context, id string) (User, error) {
	user, _, err := s.userGeneration(ctx, id)
	return user, err
}

// userGeneration returns a user with the generation that its sessions must have.
func (s store) userGeneration(ctx context.Context, id string) (User, int64, error) {
	row, err := gorm.G[userRow](s.db.Reader(ctx)).Where("id = ? AND deleted = 0", id).Take(ctx)
	return row.user(), row.Generation, missing(err, errNoUser())
}

func (s store) userByName(ctx context.Context, folded string) (User, error) {
	row, err := gorm.G[userRow](s.db.Reader(ctx)).
		Where("id = (SELECT owner FROM names WHERE folded = ? AND kind = 'user') AND deleted = 0", folded).Take(ctx)
	return row.user(), missing(err, errNoUser())
}

func (s store) anyUser(ctx context.Context) (bool, error) {
	var n int64
	err := s.db.Reader(ctx).Raw("SELECT count(*) FROM (SELECT 1 FROM users LIMIT 1) AS u").Scan(&n).Error
	return n > 0, err
}

func (s store) countOtherSiteAdmins(ctx context.Context, userID string) (int64, error) {
	return gorm.G[userRow](s.db.Reader(ctx)).Where("site_admin AND disabled = 0 AND id <> ?", userID).Count(ctx, "id")
}

// setDisabled refuses a user's credentials since a time, on behalf of by, or accepts
// them again with the zero time.
func (s store) setDisabled(ctx context.Context, userID string, since time.Time, by string) error {
	return s.db.Conn(ctx).Exec("UPDATE users SET disabled = ?, disabled_by = ? WHERE id = ?", database.Micros(since), by, userID).Error
}

func (s store) insertIdentity(ctx context.Context, userID string, i Identity, now time.Time) error {
	err := gorm.G[identityRow](s.db.Conn(ctx)).Create(ctx, &identityRow{
		Connector: i.Connector, Subject: i.Subject, UserID: userID, Created: database.Micros(now),
	})
	return taken(err, "another user signs in with that already")
}

func (s store) userByIdentity(ctx context.Context, i Identity) (User, error) {
	row, err := gorm.G[userRow](s.db.Reader(ctx)).
		Where("id = (SELECT user_id FROM identities WHERE connector = ? AND subject = ?)", i.Connector, i.Subject).Take(ctx)
	return row.user(), missing(err, errNoUser())
}

// identityOwner returns the ID of the user who has an identity, or "".
func (s store) identityOwner(ctx context.Context, i Identity) (string, error) {
	row, err := gorm.G[identityRow](s.db.Reader(ctx)).Where("connector = ? AND subject = ?", i.Connector, i.Subject).Take(ctx)
	return row.UserID, missing(err, nil)
}

func (s store) identities(ctx context.Context, userID string) ([]Identity, error) {
	rows, err := gorm.G[identityRow](s.db.Reader(ctx)).Where("user_id = ?", userID).Order("created, connector, subject").Find(ctx)
	out := make([]Identity, len(rows))
	for i, row := range rows {
		out[i] = Identity{Connector: row.Connector, Subject: row.Subject}
	}
	return out, err
}

// lockSite makes transactions that must not run at once wait for each other: set-up,
// and what changes who administers the installation.
func (s store) lockSite(ctx context.Context) error {
	return s.db.Conn(ctx).Exec("UPDATE setup SET done = done WHERE id = 1").Error
}

// setup returns the hash of the one-time code, and whether it has been used.
func (s store) setup(ctx context.Context) (code []byte, done bool, err error) {
	row, err := gorm.G[setupRow](s.db.Reader(ctx)).Where("id = ?", 1).Take(ctx)
	return row.Code, row.Done != 0, err
}

// setSetupCode replaces the code and reports whether set-up is still to come.
func (s store) setSetupCode(ctx context.Context, hash []byte) (bool, error) {
	n, err := gorm.G[setupRow](s.db.Conn(ctx)).Where("id = ? AND done = ?", 1, 0).Update(ctx, "code", hash)
	return n == 1, err
}

// finishSetup closes set-up for good and forgets the code.
func (s store) finishSetup(ctx context.Context, now time.Time) error {
	result := s.db.Conn(ctx).Exec("UPDATE setup SET done = ?, code = NULL WHERE id = 1 AND done = 0", database.Micros(now))
	if result.Error == nil && result.RowsAffected != 1 {
		return errSetUp(errs.Conflict)
	}
	return result.Error
}
