package rbac

import (
	"context"

	"gorm.io/gorm"

	"github.com/ipuka/ipuka/internal/database"
)

// store is all SQL of this package.
type store struct{ db *database.DB }

type grantRow struct {
	OrgID   string
	Project string
	Stack   string
	UserID  string
	Login   string
	Level   int64
	Created int64
}

func (grantRow) TableName() string { return "grants" }

// touched is what one version has changed: a stack's grants, a user's grants in an
// organization, an organization (its members and default permission), or, when all
// is empty, everything.
type touched struct {
	OrgID   string
	Project string
	Stack   string
	UserID  string
}

type changeRow struct {
	Version int64 `gorm:"primaryKey;autoIncrement:false"`
	OrgID   string
	Project string
	Stack   string
	UserID  string
}

func (changeRow) TableName() string { return "access_changes" }

func (r changeRow) touched() touched { return touched{r.OrgID, r.Project, r.Stack, r.UserID} }

// Changes older than keepChanges versions are deleted now and then. A process that
// is further behind reads everything.
const (
	keepChanges  = 4096
	pruneChanges = 1024
)

// touch counts the version up and notes what it changes. On PostgreSQL the row of
// the version is locked until the transaction ends, so that changes commit in the
// order of their versions.
func (s store) touch(ctx context.Context, t touched) error {
	var version int64
	err := s.db.Conn(ctx).Raw("UPDATE access_version SET version = version + 1 WHERE id = 1 RETURNING version").Scan(&version).Error
	if err != nil {
		return err
	}
	err = s.db.Conn(ctx).Exec("INSERT INTO access_changes (version, org_id, project, stack, user_id) VALUES (?, ?, ?, ?, ?)",
		version, t.OrgID, t.Project, t.Stack, t.UserID).Error
	if err != nil || version%pruneChanges != 0 {
		return err
	}
	_, err = gorm.G[changeRow](s.db.Conn(ctx)).Where("version <= ?", version-keepChanges).Delete(ctx)
	return err
}

func (s store) version(ctx context.Context) (int64, error) {
	var version int64
	err := s.db.Reader(ctx).Raw("SELECT version FROM access_version WHERE id = 1").Scan(&version).Error
	return version, err
}

// since returns up to limit changes after a version, in order.
func (s store) since(ctx context.Context, version int64, limit int) ([]changeRow, error) {
	var rows []changeRow
	err := s.db.Reader(ctx).Raw("SELECT version, org_id, project, stack, user_id FROM access_changes WHERE version > ? ORDER BY version LIMIT ?",
		version, limit).Scan(&rows).Error
	return rows, err
}

func (s store) grantsOfStack(ctx context.Context, orgID, project, stack string) ([]grantRow, error) {
	return gorm.G[grantRow](s.db.Reader(ctx)).Where("org_id = ? AND project = ? AND stack = ?", orgID, project, stack).Order("user_id").Find(ctx)
}

func (s store) grantsOfUser(ctx context.Context, orgID, userID string) ([]grantRow, error) {
	return gorm.G[grantRow](s.db.Reader(ctx)).Where("org_id = ? AND user_id = ?", orgID, userID).Find(ctx)
}

func (s store) grantsOfOrganization(ctx context.Context, orgID string) ([]grantRow, error) {
	return gorm.G[grantRow](s.db.Reader(ctx)).Where("org_id = ?", orgID).Find(ctx)
}

// grants returns all of them. Texts that repeat are kept once.
func (s store) grants(ctx context.Context) ([]grantRow, error) {
	found, err := s.db.Reader(ctx).Raw("SELECT org_id, project, stack, user_id, login, level FROM grants").Rows()
	if err != nil {
		return nil, err
	}
	defer func() { _ = found.Close() }()
	texts := make(map[string]string)
	once := func(text *string) {
		if kept, ok := texts[*text]; ok {
			*text = kept
		} else {
			texts[*text] = *text
		}
	}
	var rows []grantRow
	for found.Next() {
		var r grantRow
		if err := found.Scan(&r.OrgID, &r.Project, &r.Stack, &r.UserID, &r.Login, &r.Level); err != nil {
			return nil, err
		}
		for _, text := range []*string{&r.OrgID, &r.Project, &r.Stack, &r.UserID, &r.Login} {
			once(text)
		}
		rows = append(rows, r)
	}
	return rows, found.Err()
}

// granted returns the users with grants in an organization.
func (s store) granted(ctx context.Context, orgID string) ([]string, error) {
	var users []string
	err := s.db.Reader(ctx).Raw("SELECT DISTINCT user_id FROM grants WHERE org_id = ?", orgID).Scan(&users).Error
	return users, err
}

func (s store) level(ctx context.Context, orgID, project, stack, userID string) (Level, error) {
	var levels []int64
	err := s.db.Reader(ctx).Raw("SELECT level FROM grants WHERE org_id = ? AND project = ? AND stack = ? AND user_id = ?",
		orgID, project, stack, userID).Scan(&levels).Error
	if err != nil || len(levels) == 0 {
		return None, err
	}
	return Level(levels[0]), nil
}

func (s store) putGrant(ctx context.Context, r grantRow) error {
	return s.db.Conn(ctx).Exec(`INSERT INTO grants (org_id, project, stack, user_id, login, level, created) VALUES (?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (org_id, project, stack, user_id) DO UPDATE SET level = excluded.level, login = excluded.login, created = excluded.created`,
		r.OrgID, r.Project, r.Stack, r.UserID, r.Login, r.Level, r.Created).Error
}

func (s store) deleteGrant(ctx context.Context, orgID, project, stack, userID string) error {
	_, err := gorm.G[grantRow](s.db.Conn(ctx)).
		Where("org_id = ? AND project = ? AND stack = ? AND user_id = ?", orgID, project, stack, userID).Delete(ctx)
	return err
}

func (s store) deleteStack(ctx context.Context, orgID, project, stack string) error {
	_, err := gorm.G[grantRow](s.db.Conn(ctx)).Where("org_id = ? AND project = ? AND stack = ?", orgID, project, stack).Delete(ctx)
	return err
}

func (s store) deleteUser(ctx context.Context, orgID, userID string) error {
	_, err := gorm.G[grantRow](s.db.Conn(ctx)).Where("org_id = ? AND user_id = ?", orgID, userID).Delete(ctx)
	return err
}

func (s store) renameStack(ctx context.Context, orgID string, from, to Object) error {
	return s.db.Conn(ctx).Exec("UPDATE grants SET project = ?, stack = ? WHERE org_id = ? AND project = ? AND stack = ?",
		to.Project, to.Stack, orgID, from.Project, from.Stack).Error
}

// defaults returns the default permission of the organizations that have chosen one,
// of all of them or of the one given.
func (s store) defaults(ctx context.Context, orgID string) (map[string]Level, error) {
	var rows []struct {
		OrgID             string
		DefaultPermission int64
	}
	err := s.db.Reader(ctx).Raw("SELECT org_id, default_permission FROM organization_access WHERE org_id = ? OR ? = ''", orgID, orgID).Scan(&rows).Error
	levels := make(map[string]Level, len(rows))
	for _, row := range rows {
		levels[row.OrgID] = Level(row.DefaultPermission)
	}
	return levels, err
}

func (s store) putDefault(ctx context.Context, orgID string, level Level) error {
	return s.db.Conn(ctx).Exec(`INSERT INTO organization_access (org_id, default_permission) VALUES (?, ?)
		ON CONFLICT (org_id) DO UPDATE SET default_permission = excluded.default_permission`, orgID, int64(level)).Error
}
