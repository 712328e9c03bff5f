package identity

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"gorm.io/gorm"

	"github.com/ipuka/ipuka/internal/database"
	"github.com/ipuka/ipuka/internal/errs"
)

// saveOrganization writes what can change of a locked organization.
func (s store) saveOrganization(ctx context.Context, o Organization) error {
	err := s.db.Conn(ctx).Exec(`UPDATE organizations SET login = ?, name = ?, kind = ?, connector = ?,
		backing_id = ?, backing_path = ?, sso = ?, break_glass = ? WHERE id = ?`,
		o.Login, o.Name, string(o.Kind), o.Connector, o.Backing.ID, o.Backing.Path, o.SSO, o.BreakGlass, o.ID).Error
	return backingTaken(err)
}

func backingTaken(err error) error {
	return taken(err, "that group is behind another organization already")
}

// claimName makes the login of a locked organization its own.
func (s store) claimName(ctx context.Context, o Organization) error {
	row, err := gorm.G[nameRow](s.db.Reader(ctx)).Where("folded = ?", fold(o.Login)).Take(ctx)
	if err == nil && row.Kind == "organization" && row.Owner == o.ID {
		return nil
	}
	if err != nil && !errors.Is(err, gorm.ErrRecordNotFound) {
		return err
	}
	names, err := gorm.G[nameRow](s.db.Reader(ctx)).Where("owner = ?", o.ID).Count(ctx, "folded")
	if err != nil {
		return err
	}
	if names > maxFormer {
		return errs.Errorf(errs.Exhausted, "an organization has at most %d former names, take one of them again", maxFormer)
	}
	return s.insertName(ctx, o.Login, "organization", o.ID)
}

// forgetSource makes all members of an organization ones that were added here.
func (s store) forgetSource(ctx context.Context, organizationID string) error {
	return s.db.Conn(ctx).Exec("UPDATE members SET source = '' WHERE organization_id = ? AND source <> ''", organizationID).Error
}

// groupsOf returns the groups that a user is in as a connector said last, as long as
// it lets the user in.
func (s store) groupsOf(ctx context.Context, userID, connector string) ([]Group, error) {
	var texts []string
	err := s.db.Reader(ctx).Raw("SELECT groups FROM identities WHERE user_id = ? AND connector = ? AND withdrawn = 0 AND groups <> ''",
		userID, connector).Scan(&texts).Error
	if err != nil {
		return nil, err
	}
	var out []Group
	for _, text := range texts {
		var groups []Group
		if err := json.Unmarshal([]byte(text), &groups); err != nil {
			return nil, fmt.Errorf("reading the groups of user %s at %s: %w", userID, connector, err)
		}
		out = append(out, groups...)
	}
	return out, nil
}

func (s store) setDeleted(ctx context.Context, organizationID string, at time.Time) error {
	err := s.db.Conn(ctx).Exec("UPDATE organizations SET deleted = ? WHERE id = ?", database.Micros(at), organizationID).Error
	return backingTaken(err)
}

// lockDeleted is lockOrganization for one that is deleted and not purged.
func (s store) lockDeleted(ctx context.Context, id string) (Organization, error) {
	result := s.db.Conn(ctx).Exec("UPDATE organizations SET version = version + 1 WHERE id = ? AND purged = 0", id)
	if result.Error != nil {
		return Organization{}, result.Error
	}
	if result.RowsAffected != 1 {
		return Organization{}, errNoOrganization()
	}
	row, err := gorm.G[organizationRow](s.db.Conn(ctx)).Where("id = ?", id).Take(ctx)
	if err == nil && row.Deleted == 0 {
		err = errNotDeleted(row.organization())
	}
	return row.organization(), err
}

// purge removes all rows of a deleted organization but its own.
func (s store) purge(ctx context.Context, id string, now time.Time) error {
	for _, statement := range []string{
		"DELETE FROM team_members WHERE team_id IN (SELECT id FROM teams WHERE organization_id = ?)",
		"DELETE FROM team_groups WHERE organization_id = ?",
		"DELETE FROM teams WHERE organization_id = ?",
		"DELETE FROM invites WHERE organization_id = ?",
		"DELETE FROM sso_sessions WHERE organization_id = ?",
		"DELETE FROM members WHERE organization_id = ?",
	} {
		if err := s.db.Conn(ctx).Exec(statement, id).Error; err != nil {
			return err
		}
	}
	return s.db.Conn(ctx).Exec(`UPDATE organizations SET purged = ?, kind = 'pulumi', connector = '', backing_id = '', backing_path = '',
		sso = ?, break_glass = '' WHERE id = ?`, database.Micros(now), false, id).Error
}

// organizations returns those whose folded login is after after, in that order.
func (s store) organizations(ctx context.Context, text string, deleted bool, after string, limit int) ([]OrganizationSummary, error) {
	var rows []struct {
		Organization organizationRow `gorm:"embedded"`
		Members      int64
		Since        int64
	}
	pattern := like(text)
	err := s.db.Reader(ctx).Raw("SELECT "+organizationColumns+`, o.deleted AS since,
		(SELECT count(*) FROM members m WHERE m.organization_id = o.id) AS members
		FROM organizations o WHERE (o.deleted <> 0) = ? AND o.purged = 0 AND lower(o.login) > ?
		AND (? = '' OR lower(o.login) LIKE ? ESCAPE '!' OR lower(o.name) LIKE ? ESCAPE '!')
		ORDER BY lower(o.login) LIMIT ?`, deleted, after, text, pattern, pattern, limit).Scan(&rows).Error
	out := make([]OrganizationSummary, len(rows))
	for i, row := range rows {
		out[i] = OrganizationSummary{Organization: row.Organization.organization(), Members: row.Members, Deleted: database.Time(row.Since)}
	}
	return out, err
}
