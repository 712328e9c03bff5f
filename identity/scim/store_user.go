package scim

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"gorm.io/gorm"

	"github.com/ipuka/ipuka/internal/database"
)

type userRow struct {
	UserID         string `gorm:"primaryKey"`
	OrganizationID string
	UserName       string
	Folded         string
	ExternalID     string
	DisplayName    string
	DisplayFolded  string
	Addresses      string
	Details        string
	Active         bool
	Version        int64
	Created        int64
	Modified       int64
	Deleted        int64
}

func (userRow) TableName() string { return "scim_users" }

func (r userRow) user() (user, error) {
	u := user{
		id: r.UserID, userName: r.UserName, externalID: r.ExternalID, displayName: r.DisplayName, active: r.Active, deleted: r.Deleted != 0,
		meta: meta{version: r.Version, created: database.Time(r.Created), modified: database.Time(r.Modified)},
	}
	if err := json.Unmarshal([]byte(r.Details), &u.details); err != nil {
		return user{}, fmt.Errorf("reading the SCIM details of user %s: %w", r.UserID, err)
	}
	return u, nil
}

func newUserRow(organizationID string, u user) (userRow, error) {
	text, err := json.Marshal(u.details)
	if err != nil {
		return userRow{}, fmt.Errorf("writing the SCIM details of user %s: %w", u.id, err)
	}
	addresses := ""
	for _, e := range u.details.Emails {
		addresses += "\n" + fold(e.Value)
	}
	return userRow{
		UserID: u.id, OrganizationID: organizationID, UserName: u.userName, Folded: fold(u.userName), ExternalID: u.externalID,
		DisplayName: u.displayName, DisplayFolded: fold(u.displayName), Addresses: addresses + "\n", Details: string(text), Active: u.active,
		Version: u.meta.version, Created: database.Micros(u.meta.created), Modified: database.Micros(u.meta.modified),
	}, nil
}

// live selects the resources of an organization. An account that has been deleted
// here is none any more.
const live = "scim_users r JOIN users a ON a.id = r.user_id AND a.deleted = 0 WHERE r.organization_id = ? AND r.deleted = 0"

// userColumns are what users are searched by in the database.
var userColumns = columns{
	"id":           column("r.user_id", nil),
	"username":     column("r.folded", fold),
	"externalid":   column("r.external_id", nil),
	"displayname":  column("r.display_folded", fold),
	"emails":       addressed,
	"emails.value": addressed,
	"active": func(text string) condition {
		switch fold(text) {
		case "true":
			return condition{sql: "r.active", exact: true}
		case "false":
			return condition{sql: "NOT r.active", exact: true}
		}
		return condition{}
	},
}

func addressed(text string) condition {
	if strings.Contains(text, "\n") {
		return condition{}
	}
	return condition{sql: "r.addresses LIKE ? ESCAPE '!'", args: []any{"%\n" + escape.Replace(fold(text)) + "\n%"}, exact: true}
}

func (s store) insertUser(ctx context.Context, organizationID string, u user) error {
	row, err := newUserRow(organizationID, u)
	if err != nil {
		return err
	}
	return conflict(gorm.G[userRow](s.db.Conn(ctx)).Create(ctx, &row), taken("the userName is taken"))
}

// updateUser writes what u is, and makes it a resource again if it was none.
func (s store) updateUser(ctx context.Context, organizationID string, u user) error {
	row, err := newUserRow(organizationID, u)
	if err != nil {
		return err
	}
	n, err := gorm.G[userRow](s.db.Conn(ctx)).Where("organization_id = ? AND user_id = ?", organizationID, u.id).Select("*").Updates(ctx, row)
	if err == nil && n != 1 {
		return errNoResource()
	}
	return conflict(err, taken("the userName is taken"))
}

// dropUser makes a user no resource any more.
func (s store) dropUser(ctx context.Context, organizationID string, u user, now int64) error {
	n, err := gorm.G[userRow](s.db.Conn(ctx)).Where("organization_id = ? AND user_id = ? AND deleted = 0", organizationID, u.id).
		Updates(ctx, userRow{Deleted: now, Modified: now, Version: u.meta.version + 1})
	if err == nil && n != 1 {
		return errNoResource()
	}
	return err
}

// forgetUser removes the row of an account that is no more.
func (s store) forgetUser(ctx context.Context, organizationID, id string) error {
	_, err := gorm.G[userRow](s.db.Conn(ctx)).Where("organization_id = ? AND user_id = ?", organizationID, id).Delete(ctx)
	return err
}

func (s store) user(ctx context.Context, organizationID, id string) (user, error) {
	return s.oneUser(ctx, "SELECT r.* FROM "+live+" AND r.user_id = ?", organizationID, id)
}

// lockUser is user, and keeps other changes waiting until the transaction of ctx is over.
func (s store) lockUser(ctx context.Context, organizationID, id string) (user, error) {
	err := s.db.Conn(ctx).Exec("UPDATE scim_users SET version = version WHERE organization_id = ? AND user_id = ?", organizationID, id).Error
	if err != nil {
		return user{}, err
	}
	return s.user(ctx, organizationID, id)
}

// userByName returns the user who has, or had, a userName. The account may be gone.
func (s store) userByName(ctx context.Context, organizationID, userName string) (user, error) {
	return s.oneUser(ctx, "SELECT * FROM scim_users WHERE organization_id = ? AND folded = ?", organizationID, fold(userName))
}

func (s store) oneUser(ctx context.Context, query string, args ...any) (user, error) {
	var rows []userRow
	if err := s.db.Reader(ctx).Raw(query, args...).Scan(&rows).Error; err != nil {
		return user{}, err
	}
	if len(rows) == 0 {
		return user{}, errNoResource()
	}
	return rows[0].user()
}

func (s store) countUsers(ctx context.Context, organizationID string, where condition) (total int, err error) {
	query, args := restricted("SELECT count(*) FROM "+live, []any{organizationID}, where)
	err = s.db.Reader(ctx).Raw(query, args...).Scan(&total).Error
	return total, err
}

// users returns a page. SCIM counts resources (RFC 7644 §3.4.2.4), so there is no key
// to go on from.
func (s store) users(ctx context.Context, organizationID string, p page) ([]user, error) {
	query, args := restricted("SELECT r.* FROM "+live, []any{organizationID}, p.where)
	query += " ORDER BY " + p.order("r.folded", "r.user_id") + " LIMIT ? OFFSET ?"
	var rows []userRow
	if err := s.db.Reader(ctx).Raw(query, append(args, p.limit, p.offset)...).Scan(&rows).Error; err != nil {
		return nil, err
	}
	out := make([]user, len(rows))
	for i, row := range rows {
		var err error
		if out[i], err = row.user(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func restricted(query string, args []any, where condition) (string, []any) {
	if where.sql == "" {
		return query, args
	}
	return query + " AND " + where.sql, append(args, where.args...)
}

// provisioned returns those of some IDs that are users of an organization.
func (s store) provisioned(ctx context.Context, organizationID string, ids []string) (map[string]bool, error) {
	found := make(map[string]bool, len(ids))
	for batch := range slices.Chunk(ids, inBatch) {
		var some []string
		err := s.db.Reader(ctx).Raw("SELECT r.user_id FROM "+live+" AND r.user_id IN ?", organizationID, batch).Scan(&some).Error
		if err != nil {
			return nil, err
		}
		for _, id := range some {
			found[id] = true
		}
	}
	return found, nil
}

// groupsOf returns the groups of users, by the ID of the user.
func (s store) groupsOf(ctx context.Context, organizationID string, ids []string) (map[string][]reference, error) {
	return s.references(ctx, `SELECT m.user_id AS owner, r.team_id AS id, r.display_name AS display
		FROM team_members m JOIN scim_groups r ON r.team_id = m.team_id
		WHERE r.organization_id = ? AND m.user_id IN ? ORDER BY r.display_folded`, organizationID, ids)
}

// membersOf returns the members of groups, by the ID of the group.
func (s store) membersOf(ctx context.Context, organizationID string, ids []string) (map[string][]reference, error) {
	return s.references(ctx, `SELECT m.team_id AS owner, r.user_id AS id,
			CASE WHEN r.display_name <> '' THEN r.display_name ELSE r.user_name END AS display
		FROM team_members m JOIN scim_users r ON r.user_id = m.user_id
		WHERE r.organization_id = ? AND r.deleted = 0 AND m.team_id IN ? ORDER BY r.user_id`, organizationID, ids)
}

func (s store) references(ctx context.Context, query, organizationID string, ids []string) (map[string][]reference, error) {
	out := make(map[string][]reference, len(ids))
	for batch := range slices.Chunk(ids, inBatch) {
		var rows []struct{ Owner, ID, Display string }
		if err := s.db.Reader(ctx).Raw(query, organizationID, batch).Scan(&rows).Error; err != nil {
			return nil, err
		}
		for _, row := range rows {
			out[row.Owner] = append(out[row.Owner], reference{row.ID, row.Display})
		}
	}
	return out, nil
}
