package rbac

import (
	"context"
	"fmt"
	"time"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/database"
	"github.com/ipuka/ipuka/internal/errs"
)

// Grant is a user's permission on one stack.
type Grant struct {
	UserID  string
	Login   string // as it was when it was granted
	Level   Level
	Created time.Time
}

// Grants returns the permissions granted on a stack, ordered by user ID.
func (e *Engine) Grants(ctx context.Context, stack Object) ([]Grant, error) {
	org, err := e.organization(ctx, stack)
	if err != nil {
		return nil, err
	}
	rows, err := e.store.grantsOfStack(ctx, org.ID, stack.Project, stack.Stack)
	grants := make([]Grant, len(rows))
	for i, row := range rows {
		grants[i] = Grant{UserID: row.UserID, Login: row.Login, Level: Level(row.Level), Created: database.Time(row.Created)}
	}
	return grants, err
}

// StackCreated makes the creator of a new stack its admin, and drops whatever was
// granted on an earlier stack of that name. An empty creator is nobody. The caller
// records the event. Calling it again changes nothing.
func (e *Engine) StackCreated(ctx context.Context, stack Object, creator string) error {
	org, err := e.organization(ctx, stack)
	if err != nil {
		return err
	}
	return e.change(ctx, func(ctx context.Context) error {
		if err := e.store.touch(ctx, touchedStack(org, stack)); err != nil {
			return err
		}
		if err := e.store.deleteStack(ctx, org.ID, stack.Project, stack.Stack); err != nil || creator == "" {
			return err
		}
		user, err := e.directory.User(ctx, creator)
		if err != nil {
			return err
		}
		return e.put(ctx, org, stack, user, Admin)
	})
}

// StackRenamed moves what was granted on a stack to its new name, and drops what was
// granted on an earlier stack of that name. Grants do not follow a stack to another
// organization. The caller records the event.
func (e *Engine) StackRenamed(ctx context.Context, from, to Object) error {
	source, err := e.organization(ctx, from)
	if err != nil {
		return err
	}
	target, err := e.organization(ctx, to)
	if err != nil {
		return err
	}
	if from == to {
		return nil
	}
	return e.change(ctx, func(ctx context.Context) error {
		if err := e.store.touch(ctx, touchedStack(source, from)); err != nil {
			return err
		}
		if err := e.store.touch(ctx, touchedStack(target, to)); err != nil {
			return err
		}
		if err := e.store.deleteStack(ctx, target.ID, to.Project, to.Stack); err != nil {
			return err
		}
		if source.ID != target.ID {
			return e.store.deleteStack(ctx, source.ID, from.Project, from.Stack)
		}
		return e.store.renameStack(ctx, source.ID, from, to)
	})
}

// StackDeleted drops what was granted on a stack. The caller records the event.
func (e *Engine) StackDeleted(ctx context.Context, stack Object) error {
	return e.StackCreated(ctx, stack, "")
}

// Grant gives a member a permission on a stack, in place of the one they may have;
// None takes it away. It writes its audit record in the same transaction; when
// nothing changes it writes none. Somebody who is no member of the organization is
// errs.NotFound. The caller has made sure that the actor may, and that the stack
// exists.
func (e *Engine) Grant(ctx context.Context, actor identity.Principal, stack Object, userID string, level Level) error {
	if err := level.check(); err != nil {
		return err
	}
	org, err := e.organization(ctx, stack)
	if err != nil {
		return err
	}
	return e.change(ctx, func(ctx context.Context) error {
		if err := e.store.touch(ctx, touchedStack(org, stack)); err != nil {
			return err
		}
		user, err := e.member(ctx, org, userID)
		if err != nil {
			return err
		}
		before, err := e.store.level(ctx, org.ID, stack.Project, stack.Stack, userID)
		if err != nil || before == level {
			return err
		}
		if level == None {
			err = e.store.deleteGrant(ctx, org.ID, stack.Project, stack.Stack, userID)
		} else {
			err = e.put(ctx, org, stack, user, level)
		}
		if err != nil {
			return err
		}
		return e.record(ctx, org, granting(actor, stack, user, before, level))
	})
}

// Revoke takes a member's permission on a stack away: Grant with None.
func (e *Engine) Revoke(ctx context.Context, actor identity.Principal, stack Object, userID string) error {
	return e.Grant(ctx, actor, stack, userID, None)
}

// granting returns the event of a change of a user's permission.
func granting(actor identity.Principal, stack Object, user identity.User, before, after Level) audit.Event {
	event := audit.Event{
		Name: "stack-collaborator-permissions-changed", Object: stack.String(), Decision: audit.Allow,
		Description: fmt.Sprintf("Changed the permission of %s on stack %s from %s to %s", user.Login, stack, before, after),
		Before:      map[string]string{"user": user.ID, "permission": before.String()},
		After:       map[string]string{"user": user.ID, "permission": after.String()},
	}
	switch {
	case before == None:
		event.Name, event.Before = "stack-collaborator-added", nil
		event.Description = fmt.Sprintf("Gave %s permission %s on stack %s", user.Login, after, stack)
	case after == None:
		event.Name, event.After = "stack-collaborator-removed", nil
		event.Description = fmt.Sprintf("Took permission %s on stack %s from %s", before, stack, user.Login)
	}
	return actor.Did(event)
}

// DefaultPermission returns what every member of an organization may do with each of
// its stacks.
func (e *Engine) DefaultPermission(ctx context.Context, organization string) (Level, error) {
	org, err := e.directory.Organization(ctx, organization)
	if err != nil {
		return None, err
	}
	return e.defaultPermission(ctx, org)
}

func (e *Engine) defaultPermission(ctx context.Context, org identity.Organization) (Level, error) {
	levels, err := e.store.defaults(ctx, org.ID)
	if level, chosen := levels[org.ID]; chosen {
		return level, err
	}
	return Read, err
}

// SetDefaultPermission sets what every member of an organization may do with each of
// its stacks. It writes its audit record in the same transaction; when nothing
// changes it writes none. The caller has made sure that the actor may.
func (e *Engine) SetDefaultPermission(ctx context.Context, actor identity.Principal, organization string, level Level) error {
	if err := level.check(); err != nil {
		return err
	}
	org, err := e.directory.Organization(ctx, organization)
	if err != nil {
		return err
	}
	return e.change(ctx, func(ctx context.Context) error {
		if err := e.store.touch(ctx, touched{OrgID: org.ID}); err != nil {
			return err
		}
		before, err := e.defaultPermission(ctx, org)
		if err != nil || before == level {
			return err
		}
		if err := e.store.putDefault(ctx, org.ID, level); err != nil {
			return err
		}
		return e.record(ctx, org, actor.Did(audit.Event{
			Name: "organization-settings-changed", Object: org.Login, Decision: audit.Allow,
			Description: fmt.Sprintf("Changed the default stack permission of %s from %s to %s", org.Login, before, level),
			Before:      map[string]string{"defaultStackPermission": before.String()},
			After:       map[string]string{"defaultStackPermission": level.String()},
		}))
	})
}

func (e *Engine) record(ctx context.Context, org identity.Organization, event audit.Event) error {
	_, err := e.audit.AppendDone(ctx, org.ID, event, audit.Outcome{Result: audit.Succeeded})
	return err
}

func (e *Engine) put(ctx context.Context, org identity.Organization, stack Object, user identity.User, level Level) error {
	now, err := e.db.Now(ctx)
	if err != nil {
		return err
	}
	return e.store.putGrant(ctx, grantRow{
		OrgID: org.ID, Project: stack.Project, Stack: stack.Stack,
		UserID: user.ID, Login: user.Login, Level: int64(level), Created: database.Micros(now),
	})
}

// organization returns the organization that a stack is in.
func (e *Engine) organization(ctx context.Context, stack Object) (identity.Organization, error) {
	if stack.Project == "" || stack.Stack == "" {
		return identity.Organization{}, errs.Errorf(errs.Invalid, "a stack has an organization, a project and a name")
	}
	return e.directory.Organization(ctx, stack.Organization)
}

// member returns a user who is in an organization, disabled or not.
func (e *Engine) member(ctx context.Context, org identity.Organization, userID string) (identity.User, error) {
	memberships, err := e.directory.Organizations(ctx, userID)
	if err != nil {
		return identity.User{}, err
	}
	for _, m := range memberships {
		if m.Organization.ID == org.ID {
			return e.directory.User(ctx, userID)
		}
	}
	return identity.User{}, errs.Errorf(errs.NotFound, "that user is not a member of the organization")
}

func touchedStack(org identity.Organization, stack Object) touched {
	return touched{OrgID: org.ID, Project: stack.Project, Stack: stack.Stack}
}
