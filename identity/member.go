package identity

import (
	"context"
	"time"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/internal/errs"
)

// AddMember makes the user with a login a member. An unknown user is errs.NotFound,
// a member already errs.Conflict, and so is an account that another organization
// manages.
func (d *Directory) AddMember(ctx context.Context, actor Principal, organizationID, login string, role Role) (Member, error) {
	if err := role.check(); err != nil {
		return Member{}, err
	}
	var member Member
	err := d.changeMembers(ctx, organizationID, func(ctx context.Context, o Organization, now time.Time) error {
		user, err := d.UserByLogin(ctx, login)
		if err != nil {
			return err
		}
		member = Member{User: user, Role: role, Created: now}
		return d.addMember(ctx, actor, o, user.ID, user.Login, role, now)
	})
	if err != nil {
		return Member{}, err
	}
	return member, nil
}

func (d *Directory) addMember(ctx context.Context, actor Principal, o Organization, userID, login string, role Role, now time.Time) error {
	user, err := d.store.account(ctx, userID)
	if err != nil {
		return err
	}
	if err := user.mayJoin(o, errs.Conflict); err != nil {
		return err
	}
	if err := d.store.insertMember(ctx, o.ID, userID, role, now); err != nil {
		return err
	}
	return d.record(ctx, o.ID, actor.Did(audit.Event{
		Name: "member-added", Object: "user:" + login,
		Description: "Added " + login + " to organization " + o.Login + " as " + string(role),
		After:       facts("user", userID, "role", string(role)),
	}))
}

// mayJoin returns nil unless another organization than o manages the account: it
// would let that organization's identity provider into o.
func (a account) mayJoin(o Organization, kind errs.Kind) error {
	if a.ManagedBy != "" && a.ManagedBy != o.ID {
		return errs.Errorf(kind, "the account %s is managed by an organization, it can be in no other one", a.Login)
	}
	return nil
}

// SetRole changes what a member is. Somebody who is no member is errs.NotFound; the
// last administrator must stay one (errs.Conflict).
func (d *Directory) SetRole(ctx context.Context, actor Principal, organizationID, login string, role Role) error {
	if err := role.check(); err != nil {
		return err
	}
	return d.changeMembers(ctx, organizationID, func(ctx context.Context, o Organization, _ time.Time) error {
		user, before, err := d.member(ctx, o, login)
		if err != nil || before == role {
			return err
		}
		if err := d.keepAdmin(ctx, o, user, before); err != nil {
			return err
		}
		if err := d.store.setRole(ctx, o.ID, user.ID, role); err != nil {
			return err
		}
		if err := d.forgetBreakGlass(ctx, actor, o, user); err != nil {
			return err
		}
		return d.record(ctx, o.ID, actor.Did(audit.Event{
			Name: "member-role-changed", Object: "user:" + user.Login,
			Description: "Changed organization role for " + user.Login + " to " + string(role),
			Before:      facts("role", string(before)), After: facts("role", string(role)),
		}))
	})
}

// RemoveMember takes a member out of an organization and its teams. Somebody who is
// no member is errs.NotFound; the last administrator must stay (errs.Conflict).
func (d *Directory) RemoveMember(ctx context.Context, actor Principal, organizationID, login string) error {
	return d.changeMembers(ctx, organizationID, func(ctx context.Context, o Organization, _ time.Time) error {
		user, before, err := d.member(ctx, o, login)
		if err != nil {
			return err
		}
		if err := d.keepAdmin(ctx, o, user, before); err != nil {
			return err
		}
		if err := d.store.deleteMember(ctx, o.ID, user.ID); err != nil {
			return err
		}
		if err := d.store.leave(ctx, o.ID, user.ID); err != nil {
			return err
		}
		if err := d.forgetBreakGlass(ctx, actor, o, user); err != nil {
			return err
		}
		return d.record(ctx, o.ID, actor.Did(audit.Event{
			Name: "member-removed", Object: "user:" + user.Login,
			Description: "Removed " + user.Login + " from organization " + o.Login,
			Before:      facts("user", user.ID, "role", string(before)),
		}))
	})
}

// changeMembers runs fn in a transaction that has the organization's members for
// itself: without that, two administrators who remove each other would both see
// that the other remains.
func (d *Directory) changeMembers(ctx context.Context, organizationID string, fn func(ctx context.Context, o Organization, now time.Time) error) error {
	return d.db.Tx(ctx, func(ctx context.Context) error {
		o, err := d.store.lockOrganization(ctx, organizationID)
		if err != nil {
			return err
		}
		now, err := d.store.clock(ctx)
		if err != nil {
			return err
		}
		if err := fn(ctx, o, now); err != nil {
			return err
		}
		d.changed(ctx, o.ID)
		return nil
	})
}

func (d *Directory) member(ctx context.Context, o Organization, login string) (User, Role, error) {
	user, err := d.UserByLogin(ctx, login)
	if err != nil {
		return User{}, "", err
	}
	role, err := d.store.role(ctx, o.ID, user.ID)
	return user, role, err
}

// keepAdmin refuses to take the role of administrator from the last one who has it
// and can use it.
func (d *Directory) keepAdmin(ctx context.Context, o Organization, user User, role Role) error {
	if role != RoleAdmin {
		return nil
	}
	others, err := d.store.countOtherAdmins(ctx, o.ID, user.ID)
	if err != nil {
		return err
	}
	if others == 0 {
		return errs.Errorf(errs.Conflict, "%s is the last administrator of organization %s, appoint another one first", user.Login, o.Login)
	}
	return nil
}
