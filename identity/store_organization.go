package identity

import (
	"context"
	"slices"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/ipuka/ipuka/internal/database"
	"github.com/ipuka/ipuka/internal/errs"
)

type organizationRow struct {
	ID          string
	Login       string
	Name        string
	Version     int64
	Created     int64
	Key         string
	Kind        string
	Connector   string
	BackingID   string
	BackingPath string
	SSO         bool
	BreakGlass  string
	Deleted     int64
	Purged      int64
}

// organizationColumns are the columns of organizations AS o that make an Organization.
const organizationColumns = "o.id, o.login, o.name, o.created, o.key, o.kind, o.connector, o.backing_id, o.backing_path, o.sso, o.break_glass"

func (organizationRow) TableName() string { return "organizations" }

func (r organizationRow) organization() Organization {
	return Organization{
		ID: r.ID, Login: r.Login, Name: r.Name, Created: database.Time(r.Created),
		Key: r.Key, Kind: OrganizationKind(r.Kind), Connector: r.Connector, Backing: Group{ID: r.BackingID, Path: r.BackingPath},
		SSO: r.SSO, BreakGlass: r.BreakGlass,
	}
}

type memberRow struct {
	OrganizationID string
	UserID         string
	Role           string
	Created        int64
	Source         string
}

func (memberRow) TableName() string { return "members" }

func (s store) insertOrganization(ctx context.Context, o Organization) error {
	if err := s.insertName(ctx, o.Login, "organization", o.ID); err != nil {
		return err
	}
	return gorm.G[organizationRow](s.db.Conn(ctx)).Create(ctx, &organizationRow{
		ID: o.ID, Login: o.Login, Name: o.Name, Version: 1, Created: database.Micros(o.Created),
		Key: o.Key, Kind: string(o.Kind),
	})
}

func (s store) organizationByName(ctx context.Context, folded string) (Organization, error) {
	row, err := gorm.G[organizationRow](s.db.Reader(ctx)).
		Where("deleted = 0 AND id = (SELECT owner FROM names WHERE folded = ? AND kind = 'organization')", folded).Take(ctx)
	return row.organization(), missing(err, errNoOrganization())
}

func (s store) organization(ctx context.Context, id string) (Organization, error) {
	row, err := gorm.G[organizationRow](s.db.Reader(ctx)).Where("id = ? AND deleted = 0", id).Take(ctx)
	return row.organization(), missing(err, errNoOrganization())
}

// lockOrganization returns an organization and keeps other changes of its members
// waiting until the transaction of ctx is over.
func (s store) lockOrganization(ctx context.Context, id string) (Organization, error) {
	result := s.db.Conn(ctx).Exec("UPDATE organizations SET version = version + 1 WHERE id = ? AND deleted = 0", id)
	if result.Error != nil {
		return Organization{}, result.Error
	}
	if result.RowsAffected != 1 {
		return Organization{}, errNoOrganization()
	}
	row, err := gorm.G[organizationRow](s.db.Conn(ctx)).Where("id = ?", id).Take(ctx)
	return row.organization(), err
}

func (s store) memberships(ctx context.Context, userID string) ([]Membership, error) {
	var rows []struct {
		Organization organizationRow `gorm:"embedded"`
		Role         string
		Joined       int64
	}
	err := s.db.Reader(ctx).Raw("SELECT "+organizationColumns+`, m.role, m.created AS joined
		FROM members m JOIN organizations o ON o.id = m.organization_id AND o.deleted = 0
		JOIN names n ON n.owner = o.id AND n.folded = lower(o.login)
		WHERE m.user_id = ? ORDER BY n.folded`, userID).Scan(&rows).Error
	out := make([]Membership, len(rows))
	for i, row := range rows {
		out[i] = Membership{Organization: row.Organization.organization(), Role: Role(row.Role), Created: database.Time(row.Joined)}
	}
	return out, err
}

// members returns members of an organization in the order of their folded logins,
// those only whose login, name or address has text in it.
func (s store) members(ctx context.Context, organizationID, text, after string, limit int) ([]Member, error) {
	var rows []struct {
		User   userRow `gorm:"embedded"`
		Role   string
		Source string
		Joined int64
	}
	pattern := like(text)
	err := s.db.Reader(ctx).Raw(`SELECT u.*, m.role, m.source, m.created AS joined
		FROM members m JOIN users u ON u.id = m.user_id
		JOIN organizations o ON o.id = m.organization_id AND o.deleted = 0
		WHERE m.organization_id = ? AND lower(u.login) > ?
		AND (? = '' OR lower(u.login) LIKE ? ESCAPE '!' OR lower(u.name) LIKE ? ESCAPE '!' OR u.email LIKE ? ESCAPE '!')
		ORDER BY lower(u.login) LIMIT ?`, organizationID, after, text, pattern, pattern, pattern, limit).Scan(&rows).Error
	out := make([]Member, len(rows))
	for i, row := range rows {
		out[i] = Member{User: row.User.user(), Role: Role(row.Role), Created: database.Time(row.Joined), Source: row.Source}
	}
	return out, err
}

// like returns the pattern that finds text anywhere, in whatever case.
func like(text string) string {
	return "%" + strings.NewReplacer("!", "!!", "%", "!%", "_", "!_").Replace(strings.ToLower(text)) + "%"
}

// rosters returns the roster of one organization, or of all of them for "", as they
// are at one moment.
func (s store) rosters(ctx context.Context, organizationID string) ([]Roster, error) {
	var out []Roster
	err := s.db.ReadTx(ctx, func(ctx context.Context) (err error) {
		if out, err = s.roles(ctx, organizationID); err != nil || len(out) == 0 {
			return err
		}
		return s.formerNames(ctx, organizationID, out)
	})
	return out, err
}

// oneOrAll restricts a query by the organization o.
func oneOrAll(organizationID string) (string, []any) {
	if organizationID == "" {
		return "", nil
	}
	return " AND o.id = ?", []any{organizationID}
}

func (s store) roles(ctx context.Context, organizationID string) ([]Roster, error) {
	var rows []struct {
		Organization organizationRow `gorm:"embedded"`
		UserID       string
		Role         string
	}
	condition, args := oneOrAll(organizationID)
	err := s.db.Reader(ctx).Raw("SELECT "+organizationColumns+`, coalesce(u.id, '') AS user_id, coalesce(m.role, '') AS role
		FROM organizations o LEFT JOIN members m ON m.organization_id = o.id
		LEFT JOIN users u ON u.id = m.user_id AND u.disabled = 0
		WHERE o.deleted = 0`+condition+" ORDER BY o.id", args...).Scan(&rows).Error
	if err != nil {
		return nil, err
	}
	var out []Roster
	for _, row := range rows {
		if len(out) == 0 || out[len(out)-1].Organization.ID != row.Organization.ID {
			out = append(out, Roster{Organization: row.Organization.organization(), Roles: make(map[string]Role)})
		}
		if row.UserID != "" {
			out[len(out)-1].Roles[row.UserID] = Role(row.Role)
		}
	}
	return out, nil
}

// formerNames fills in the former names of rosters, which are those of one
// organization or of all.
func (s store) formerNames(ctx context.Context, organizationID string, rosters []Roster) error {
	var rows []nameRow
	condition, args := oneOrAll(organizationID)
	err := s.db.Reader(ctx).Raw(`SELECT n.owner, n.folded FROM organizations o JOIN names n ON n.owner = o.id
		WHERE o.deleted = 0 AND n.kind = 'organization' AND n.folded <> lower(o.login)`+condition+" ORDER BY n.folded", args...).Scan(&rows).Error
	if err != nil || len(rows) == 0 {
		return err
	}
	former := make(map[string][]string)
	for _, row := range rows {
		former[row.Owner] = append(former[row.Owner], row.Folded)
	}
	for i := range rosters {
		rosters[i].Former = former[rosters[i].Organization.ID]
	}
	return nil
}

func (s store) insertMember(ctx context.Context, organizationID, userID string, role Role, now time.Time) error {
	err := gorm.G[memberRow](s.db.Conn(ctx)).Create(ctx, &memberRow{
		OrganizationID: organizationID, UserID: userID, Role: string(role), Created: database.Micros(now),
	})
	return taken(err, "that user is a member of the organization already")
}

func (s store) role(ctx context.Context, organizationID, userID string) (Role, error) {
	row, err := gorm.G[memberRow](s.db.Reader(ctx)).Where("organization_id = ? AND user_id = ?", organizationID, userID).Take(ctx)
	return Role(row.Role), missing(err, errNoMember())
}

func errNoMember() error {
	return errs.Errorf(errs.NotFound, "that user is not a member of the organization")
}

func (s store) setRole(ctx context.Context, organizationID, userID string, role Role) error {
	n, err := gorm.G[memberRow](s.db.Conn(ctx)).Where("organization_id = ? AND user_id = ?", organizationID, userID).Update(ctx, "role", string(role))
	if err == nil && n != 1 {
		return errNoMember()
	}
	return err
}

func (s store) deleteMember(ctx context.Context, organizationID, userID string) error {
	n, err := gorm.G[memberRow](s.db.Conn(ctx)).Where("organization_id = ? AND user_id = ?", organizationID, userID).Delete(ctx)
	if err == nil && n != 1 {
		return errNoMember()
	}
	return err
}

// countOtherAdmins counts the administrators, userID aside, who are not disabled.
func (s store) countOtherAdmins(ctx context.Context, organizationID, userID string) (int64, error) {
	var n int64
	err := s.db.Reader(ctx).Raw(`SELECT count(*) FROM members m JOIN users u ON u.id = m.user_id
		WHERE m.organization_id = ? AND m.role = 'admin' AND m.user_id <> ? AND u.disabled = 0`, organizationID, userID).Scan(&n).Error
	return n, err
}

// leave removes what hangs on a membership that has ended.
func (s store) leave(ctx context.Context, organizationID, userID string) error {
	err := s.db.Conn(ctx).Exec(`DELETE FROM team_members WHERE user_id = ?
		AND team_id IN (SELECT id FROM teams WHERE organization_id = ?)`, userID, organizationID).Error
	if err != nil {
		return err
	}
	return s.db.Conn(ctx).Exec("DELETE FROM sso_sessions WHERE organization_id = ? AND user_id = ?", organizationID, userID).Error
}

// account is what decides whether somebody may become a member.
type account struct {
	ID            string
	Login         string
	Email         string
	EmailVerified bool
	ManagedBy     string
	Disabled      int64
}

func (s store) account(ctx context.Context, userID string) (account, error) {
	var rows []account
	err := s.db.Reader(ctx).Raw("SELECT id, login, email, email_verified, managed_by, disabled FROM users WHERE id = ?", userID).Scan(&rows).Error
	if err != nil {
		return account{}, err
	}
	if len(rows) == 0 {
		return account{}, errNoUser()
	}
	return rows[0], nil
}

// maxIn bounds the values that one statement lists.
const maxIn = 500

// usersByID returns the users there are of the given IDs.
func (s store) usersByID(ctx context.Context, ids []string) (map[string]User, error) {
	out := make(map[string]User, len(ids))
	for chunk := range slices.Chunk(ids, maxIn) {
		rows, err := gorm.G[userRow](s.db.Reader(ctx)).Where("id IN ?", chunk).Find(ctx)
		if err != nil {
			return nil, err
		}
		for _, row := range rows {
			out[row.ID] = row.user()
		}
	}
	return out, nil
}
