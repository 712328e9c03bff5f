package state

import (
	"context"

	"gorm.io/gorm"

	"github.com/ipuka/ipuka/internal/database"
	"github.com/ipuka/ipuka/internal/errs"
)

type stackRow struct {
	ID           string `gorm:"primaryKey"`
	Organization string
	Project      string
	Name         string
	Version      int64
	ActiveUpdate string
	Deployment   string
	Resources    int64
	LastUpdate   int64
	DataKey      []byte
	Created      int64
}

func (stackRow) TableName() string { return "stacks" }

func (r stackRow) stack() stack {
	return stack{
		id: r.ID, ref: stackRef{r.Organization, r.Project, r.Name}, version: r.Version,
		activeUpdate: r.ActiveUpdate, deployment: r.Deployment, resources: r.Resources,
		lastUpdate: database.Time(r.LastUpdate), dataKey: r.DataKey, created: database.Time(r.Created),
	}
}

func rowOfStack(s stack) stackRow {
	return stackRow{
		ID: s.id, Organization: s.ref.organization, Project: s.ref.project, Name: s.ref.name, Version: s.version,
		ActiveUpdate: s.activeUpdate, Deployment: s.deployment, Resources: s.resources,
		LastUpdate: database.Micros(s.lastUpdate), DataKey: s.dataKey, Created: database.Micros(s.created),
	}
}

type tagRow struct{ StackID, Name, Value string }

func (tagRow) TableName() string { return "stack_tags" }

type aliasRow struct{ Organization, Project, Name, StackID string }

func (aliasRow) TableName() string { return "stack_aliases" }

const byName = " WHERE organization = ? AND project = ? AND name = ?"

// stack returns the stack that is called ref now.
func (s store) stack(ctx context.Context, ref stackRef) (stack, error) {
	row, err := one[stackRow](s.db.Reader(ctx).Raw("SELECT * FROM stacks"+byName, ref.args()...), "stack %s not found", ref)
	return row.stack(), err
}

// stackByID returns a stack by what never changes.
func (s store) stackByID(ctx context.Context, id string) (stack, error) {
	row, err := one[stackRow](s.db.Reader(ctx).Raw("SELECT * FROM stacks WHERE id = ?", id), "the stack has just been deleted")
	return row.stack(), err
}

// aliased returns the stack that was called ref before it was renamed.
func (s store) aliased(ctx context.Context, ref stackRef) (stack, error) {
	row, err := one[stackRow](s.db.Reader(ctx).Raw(
		"SELECT * FROM stacks WHERE id = (SELECT stack_id FROM stack_aliases"+byName+")", ref.args()...), "stack %s not found", ref)
	return row.stack(), err
}

// lockStack returns the stack and keeps every other transaction from changing it.
func (s store) lockStack(ctx context.Context, id string) (stack, error) {
	row, err := one[stackRow](s.db.Conn(ctx).Raw("SELECT * FROM stacks WHERE id = ?"+s.locking(), id), "the stack has just been deleted")
	return row.stack(), err
}

func (s store) insertStack(ctx context.Context, new stack) error {
	row := rowOfStack(new)
	err := gorm.G[stackRow](s.db.Conn(ctx)).Create(ctx, &row)
	if isDuplicate(err) {
		return errs.Errorf(errs.Conflict, "stack %s already exists", new.ref)
	}
	return err
}

// advance stores what an update that begins or ends changes of its stack.
func (s store) advance(ctx context.Context, st stack) error {
	return s.exec(ctx, "UPDATE stacks SET version = ?, active_update = ?, deployment = ?, resources = ?, last_update = ? WHERE id = ?",
		st.version, st.activeUpdate, st.deployment, st.resources, database.Micros(st.lastUpdate), st.id)
}

// renameStack gives a stack another name and keeps the old one as an alias.
func (s store) renameStack(ctx context.Context, id string, from, to stackRef) error {
	err := s.exec(ctx, "UPDATE stacks SET project = ?, name = ? WHERE id = ?", to.project, to.name, id)
	if isDuplicate(err) {
		return errs.Errorf(errs.Conflict, "stack %s already exists", to)
	}
	if err != nil {
		return err
	}
	if err := s.dropAlias(ctx, to); err != nil {
		return err
	}
	return gorm.G[aliasRow](s.db.Conn(ctx)).Create(ctx, &aliasRow{from.organization, from.project, from.name, id})
}

func (s store) dropAlias(ctx context.Context, ref stackRef) error {
	return s.db.Conn(ctx).Exec("DELETE FROM stack_aliases"+byName, ref.args()...).Error
}

// deleteStack removes a stack with all that hangs on its id.
func (s store) deleteStack(ctx context.Context, id string) error {
	return s.exec(ctx, "DELETE FROM stacks WHERE id = ?", id)
}

// projectExists reports whether a project has at least one stack.
func (s store) projectExists(ctx context.Context, organization, project string) (bool, error) {
	var found []int
	err := s.db.Reader(ctx).Raw("SELECT 1 FROM stacks WHERE organization = ? AND project = ? LIMIT 1", organization, project).Scan(&found).Error
	return len(found) > 0, err
}

func (s store) tags(ctx context.Context, id string) (map[string]string, error) {
	rows, err := gorm.G[tagRow](s.db.Reader(ctx)).Where("stack_id = ?", id).Find(ctx)
	tags := make(map[string]string, len(rows))
	for _, row := range rows {
		tags[row.Name] = row.Value
	}
	return tags, err
}

func (s store) replaceTags(ctx context.Context, id string, tags map[string]string) error {
	if err := s.db.Conn(ctx).Exec("DELETE FROM stack_tags WHERE stack_id = ?", id).Error; err != nil || len(tags) == 0 {
		return err
	}
	rows := make([]tagRow, 0, len(tags))
	for name, value := range tags {
		rows = append(rows, tagRow{id, name, value})
	}
	return gorm.G[tagRow](s.db.Conn(ctx)).CreateInBatches(ctx, &rows, 500)
}

// filter selects stacks for a list. Empty members select everything.
type filter struct {
	organization, project string
	tagName, tagValue     string
	hasTagValue           bool
	after                 stackRef // the last one of the page before
	limit                 int
}

// summary is one line of a list of stacks.
type summary struct {
	stack
	running bool
}

// stacks returns a page of stacks, by name, with one more than asked for when there
// are more. The conditions are written so that a page is one range of the index on
// the names, however deep it lies.
func (s store) stacks(ctx context.Context, f filter) ([]summary, error) {
	query := `SELECT s.id, s.organization, s.project, s.name, s.version, s.resources, s.last_update,
		EXISTS (SELECT 1 FROM updates u WHERE u.stack_id = s.id AND u.status IN ('running', 'cancelling', 'closing') AND NOT u.preview) AS running
		FROM stacks s WHERE `
	var args []any
	switch {
	case f.organization == "":
		query, args = query+"(s.organization, s.project, s.name) > (?, ?, ?)", f.after.args()
		if f.project != "" {
			query, args = query+" AND s.project = ?", append(args, f.project)
		}
	case f.project == "":
		query, args = query+"s.organization = ? AND (s.project, s.name) > (?, ?)", []any{f.organization, f.after.project, f.after.name}
	default:
		query, args = query+"s.organization = ? AND s.project = ? AND s.name > ?", []any{f.organization, f.project, f.after.name}
	}
	if f.tagName != "" {
		query += " AND s.id IN (SELECT stack_id FROM stack_tags WHERE name = ?"
		args = append(args, f.tagName)
		if f.hasTagValue {
			query += " AND value = ?"
			args = append(args, f.tagValue)
		}
		query += ")"
	}
	query += " ORDER BY s.organization, s.project, s.name LIMIT ?"
	var rows []struct {
		Stack   stackRow `gorm:"embedded"`
		Running bool
	}
	if err := s.db.Reader(ctx).Raw(query, append(args, f.limit+1)...).Scan(&rows).Error; err != nil {
		return nil, err
	}
	page := make([]summary, len(rows))
	for i, row := range rows {
		page[i] = summary{row.Stack.stack(), row.Running}
	}
	return page, nil
}
