package identity

import (
	"context"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/go-json-experiment/json"

	"github.com/ipuka/ipuka/internal/database"
)

// consume reports whether a key is used for the first time since it was forgotten
// last.
func (s store) consume(ctx context.Context, key string, now, until time.Time) (bool, error) {
	result := s.db.Conn(ctx).Exec(`INSERT INTO consumed (key, expires) VALUES (?, ?)
		ON CONFLICT (key) DO UPDATE SET expires = excluded.expires WHERE consumed.expires <= ?`,
		key, database.Micros(until), database.Micros(now))
	return result.RowsAffected == 1, result.Error
}

func (s store) sweepConsumed(ctx context.Context, now int64, limit int) (int64, error) {
	result := s.db.Conn(ctx).Exec(`DELETE FROM consumed WHERE expires <= ? AND key IN
		(SELECT key FROM consumed WHERE expires <= ? LIMIT ?)`, now, now, limit)
	return result.RowsAffected, result.Error
}

// encodeGroups returns groups as they are stored, which is not the empty text.
func encodeGroups(groups []Group) (string, error) {
	text, err := json.Marshal(groups)
	return string(text), err
}

func decodeGroups(text string) ([]Group, error) {
	if text == "" {
		return nil, nil
	}
	var groups []Group
	err := json.Unmarshal([]byte(text), &groups)
	return groups, err
}

// answer is what a provider has said of an identity, to be stored.
type answer struct {
	login, email string
	groups       []Group // nil: it has said nothing of them
	credential   []byte  // sealed; nil: the one before stays
}

func (a answer) columns(now time.Time) (map[string]any, error) {
	columns := map[string]any{"login": a.login, "email": a.email, "answered": database.Micros(now)}
	if a.groups != nil {
		groups, err := encodeGroups(a.groups)
		if err != nil {
			return nil, err
		}
		columns["groups"] = groups
	}
	if a.credential != nil {
		columns["credential"] = a.credential
	}
	return columns, nil
}

func (s store) updateIdentity(ctx context.Context, i Identity, columns map[string]any) *gorm.DB {
	return s.db.Conn(ctx).Table("identities").Where("connector = ? AND subject = ?", i.Connector, i.Subject).Updates(columns)
}

// arrived writes down that somebody arrived with an identity; false when nobody has
// it. The row stays locked until the transaction is over.
func (s store) arrived(ctx context.Context, i Identity, a answer, now time.Time) (bool, error) {
	columns, err := a.columns(now)
	if err != nil {
		return false, err
	}
	columns["used"], columns["checked"], columns["withdrawn"] = database.Micros(now), database.Micros(now), 0
	result := s.updateIdentity(ctx, i, columns)
	return result.RowsAffected == 1, result.Error
}

// addIdentity inserts an identity that somebody has just arrived with; false when
// there is one already.
func (s store) addIdentity(ctx context.Context, userID string, i Identity, a answer, now time.Time) (bool, error) {
	row := identityRow{
		Connector: i.Connector, Subject: i.Subject, UserID: userID, Created: database.Micros(now),
		Login: a.login, Email: a.email, Credential: a.credential,
		Used: database.Micros(now), Checked: database.Micros(now), Answered: database.Micros(now),
	}
	if a.groups != nil {
		var err error
		if row.Groups, err = encodeGroups(a.groups); err != nil {
			return false, err
		}
	}
	return s.insertIdentities(ctx, row)
}

// insertIdentities reports whether it could insert all of the rows. If not, the
// transaction has to be given up.
func (s store) insertIdentities(ctx context.Context, rows ...identityRow) (bool, error) {
	result := s.db.Conn(ctx).Clauses(clause.OnConflict{DoNothing: true}).Create(&rows)
	return result.RowsAffected == int64(len(rows)), result.Error
}

func (s store) setUsed(ctx context.Context, userID, connector string, now time.Time) error {
	return s.db.Conn(ctx).Exec("UPDATE identities SET used = ? WHERE user_id = ? AND connector = ?", database.Micros(now), userID, connector).Error
}

func (s store) identityRows(ctx context.Context, userID string) ([]identityRow, error) {
	return gorm.G[identityRow](s.db.Reader(ctx)).Where("user_id = ?", userID).Order("created, connector, subject").Find(ctx)
}

func (s store) deleteIdentity(ctx context.Context, userID string, i Identity) (bool, error) {
	n, err := gorm.G[identityRow](s.db.Conn(ctx)).Where("user_id = ? AND connector = ? AND subject = ?", userID, i.Connector, i.Subject).Delete(ctx)
	return n == 1, err
}

// identified is a user with what else an arrival must know.
type identified struct {
	User  userRow `gorm:"embedded"`
	Other bool    // the user has identities at other connectors
}

func (s store) userWithIdentity(ctx context.Context, i Identity) (User, int64, bool, error) {
	var row identified
	result := s.db.Conn(ctx).Raw(`SELECT u.*, EXISTS (SELECT 1 FROM identities o WHERE o.user_id = u.id AND o.connector <> ?) AS other
		FROM identities i JOIN users u ON u.id = i.user_id WHERE i.connector = ? AND i.subject = ?`,
		i.Connector, i.Connector, i.Subject).Scan(&row)
	if result.Error == nil && result.RowsAffected != 1 {
		return User{}, 0, false, errNoUser()
	}
	return row.User.user(), row.User.Generation, row.Other, result.Error
}

// lockUser returns a user and keeps other changes of it waiting until the transaction
// of ctx is over.
func (s store) lockUser(ctx context.Context, id string) (User, error) {
	var row userRow
	result := s.db.Conn(ctx).Raw("UPDATE users SET generation = generation WHERE id = ? AND deleted = 0 RETURNING *", id).Scan(&row)
	if result.Error == nil && result.RowsAffected != 1 {
		return User{}, errNoUser()
	}
	return row.user(), result.Error
}

// saveUser writes what users or their providers change of an account.
func (s store) saveUser(ctx context.Context, u User) error {
	return s.db.Conn(ctx).Exec(`UPDATE users SET login = ?, name = ?, email = ?, email_verified = ?, avatar_url = ?, site_admin = ? WHERE id = ?`,
		u.Login, u.Name, u.Email, u.EmailVerified, u.AvatarURL, u.SiteAdmin, u.ID).Error
}

// takeName takes the first of choices that is free for a new user. The first choice
// is tried before any question, since most names are free.
func (s store) takeName(ctx context.Context, choices []string, owner string) (string, error) {
	first, rest := choices[0], choices[1:]
	if got, err := s.tryName(ctx, first, owner); err != nil || got {
		return first, err
	}
	free, err := s.freeNames(ctx, rest)
	if err != nil {
		return "", err
	}
	for _, choice := range free {
		if got, err := s.tryName(ctx, choice, owner); err != nil || got {
			return choice, err
		}
	}
	return "", errNamesTaken()
}

func (s store) tryName(ctx context.Context, name, owner string) (bool, error) {
	if err := ValidLogin(name); err != nil {
		return false, nil //nolint:nilerr // a suggestion that is no login is passed over
	}
	result := s.db.Conn(ctx).Clauses(clause.OnConflict{DoNothing: true}).Create(&nameRow{Folded: fold(name), Kind: "user", Owner: owner})
	return result.RowsAffected == 1, result.Error
}

// freeNames returns those of choices that nobody had a moment ago.
func (s store) freeNames(ctx context.Context, choices []string) ([]string, error) {
	folded := make([]string, len(choices))
	for i, choice := range choices {
		folded[i] = fold(choice)
	}
	rows, err := gorm.G[nameRow](s.db.Reader(ctx)).Where("folded IN ?", folded).Find(ctx)
	if err != nil {
		return nil, err
	}
	taken := make(map[string]bool, len(rows))
	for _, row := range rows {
		taken[row.Folded] = true
	}
	free := choices[:0:0]
	for _, choice := range choices {
		if !taken[fold(choice)] {
			free = append(free, choice)
		}
	}
	return free, nil
}

// home is the organization that a connector belongs to.
type home struct {
	ID        string
	Login     string
	Kind      string
	Connector string
	SSO       bool
	Deleted   int64
}

// backed reports whether the members of the organization are those whom c lets in.
func (h home) backed(c ConnectorInfo) bool {
	return h.Kind == string(KindSAMLBacked) && h.Connector == c.Name
}

// home returns an organization, found or not.
func (s store) home(ctx context.Context, id string) (home, bool, error) {
	var row home
	result := s.db.Conn(ctx).Raw("SELECT id, login, kind, connector, sso, deleted FROM organizations WHERE id = ?", id).Scan(&row)
	return row, result.RowsAffected == 1 && row.Deleted == 0, result.Error
}

// lockHome is home for a change of the organization's members.
func (s store) lockHome(ctx context.Context, id string) (home, error) {
	var row home
	result := s.db.Conn(ctx).Raw(`UPDATE organizations SET version = version + 1 WHERE id = ? AND deleted = 0
		RETURNING id, login, kind, connector, sso, deleted`, id).Scan(&row)
	if result.Error == nil && result.RowsAffected != 1 {
		return home{}, errNoOrganization()
	}
	return row, result.Error
}

func (s store) isMember(ctx context.Context, organizationID, userID string) (bool, error) {
	var n int64
	err := s.db.Conn(ctx).Raw("SELECT count(*) FROM members WHERE organization_id = ? AND user_id = ?", organizationID, userID).Scan(&n).Error
	return n > 0, err
}

func (s store) setSSO(ctx context.Context, organizationID, userID string, until time.Time) error {
	return s.db.Conn(ctx).Exec(`INSERT INTO sso_sessions (organization_id, user_id, expires) VALUES (?, ?, ?)
		ON CONFLICT (organization_id, user_id) DO UPDATE SET expires = excluded.expires`, organizationID, userID, database.Micros(until)).Error
}

// sso returns who need not sign in to an organization, until when a user has done so,
// 0 for never, and the time.
func (s store) sso(ctx context.Context, organizationID, userID string) (breakGlass string, expires, now int64, err error) {
	clock, args := s.clockColumn()
	found, err := s.db.QueryRow(ctx, "SELECT o.break_glass, coalesce(s.expires, 0), "+clock+` FROM organizations o
		LEFT JOIN sso_sessions s ON s.organization_id = o.id AND s.user_id = ?
		WHERE o.id = ? AND o.deleted = 0`, append(args, userID, organizationID), &breakGlass, &expires, &now)
	if err == nil && !found {
		err = errNoOrganization()
	}
	return breakGlass, expires, now, err
}

// sweepSSO deletes up to limit single sign-ons. They are kept for a month after
// their end, so that whoever comes back is told that they have to sign in again.
func (s store) sweepSSO(ctx context.Context, now int64, limit int) (int64, error) {
	now -= (30 * 24 * time.Hour).Microseconds()
	result := s.db.Conn(ctx).Exec(`DELETE FROM sso_sessions WHERE (organization_id, user_id) IN
		(SELECT organization_id, user_id FROM sso_sessions WHERE expires <= ? LIMIT ?)`, now, limit)
	return result.RowsAffected, result.Error
}
