package scim

import (
	"context"
	"errors"
	"net/http"
	"reflect"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/database"
	"github.com/ipuka/ipuka/internal/errs"
)

func (c *call) users() kind {
	return kind{
		create: c.createUser,
		read:   c.readUser,
		put: func(id string) error {
			return c.changeUser(id, func(u *user, body resource) error { return u.replace(body) })
		},
		patch:   func(id string) error { return c.changeUser(id, patchUser) },
		destroy: c.deleteUser,
		list: func(q query) error {
			return answerList(c, source[user]{
				schema: userSchema, columns: userColumns, count: c.store.countUsers, page: c.store.users, render: c.renderUsers,
			}, q)
		},
	}
}

// renderUsers returns users as they are sent, with their groups where q needs them.
func (c *call) renderUsers(ctx context.Context, users []user, q query) ([]resource, error) {
	var groups map[string][]reference
	if q.wants("groups") || q.filter.mentions("groups") {
		ids := make([]string, len(users))
		for i, u := range users {
			ids[i] = u.id
		}
		var err error
		if groups, err = c.store.groupsOf(ctx, c.organization.ID, ids); err != nil {
			return nil, err
		}
	}
	out := make([]resource, len(users))
	for i, u := range users {
		out[i] = u.resource(c.base, groups[u.id])
	}
	return out, nil
}

func (c *call) showUser(status int, u user) error {
	q, err := c.fromURL()
	if err != nil {
		return err
	}
	shown, err := c.renderUsers(c.r.Context(), []user{u}, q)
	if err != nil {
		return err
	}
	return c.show(status, u.meta, shown[0], q)
}

func (c *call) readUser(id string) error {
	u, err := c.store.user(c.r.Context(), c.organization.ID, id)
	if err != nil || c.unchanged(u.meta) {
		return err
	}
	return c.showUser(http.StatusOK, u)
}

func (c *call) createUser() error {
	body, err := readObject(c.r)
	if err != nil {
		return err
	}
	var made user
	err = c.db.Tx(c.r.Context(), func(ctx context.Context) error {
		u := user{active: true}
		if err := u.replace(body); err != nil {
			return err
		}
		made, err = c.provision(ctx, u)
		return err
	})
	if err != nil {
		return typed(err)
	}
	return c.showUser(http.StatusCreated, made)
}

// provision makes u a resource: of the account that had its userName before, of the
// account that has signed in with it by SAML, or else of a new one.
func (c *call) provision(ctx context.Context, u user) (user, error) {
	now, err := c.store.clock(ctx)
	if err != nil {
		return user{}, err
	}
	u.meta = meta{created: now, modified: now, version: 1}
	former, err := c.store.userByName(ctx, c.organization.ID, u.userName)
	if err != nil && errs.KindOf(err) != errs.NotFound {
		return user{}, err
	}
	if former.id != "" {
		if u.id, err = c.former(ctx, former); err != nil {
			return user{}, err
		}
		if u.id != "" {
			u.meta.version = former.meta.version + 1 // a version is never seen twice
			return u, c.revive(ctx, u, c.store.updateUser)
		}
	}
	known, err := c.directory.UserByIdentity(ctx, identity.Identity{
		Connector: identity.SAMLConnector(c.organization.ID), Subject: u.userName,
	})
	if err != nil && errs.KindOf(err) != errs.NotFound {
		return user{}, err
	}
	if known.ID != "" && known.ManagedBy == c.organization.ID {
		u.id = known.ID
		return u, c.revive(ctx, u, c.store.insertUser)
	}
	account, err := c.directory.ProvisionUser(ctx, c.actor, c.organization.ID, u.provisioned())
	if err != nil {
		return user{}, err
	}
	u.id = account.ID
	return u, c.store.insertUser(ctx, c.organization.ID, u)
}

// former returns the account of a user name that was a resource before; "" when it is
// no more.
func (c *call) former(ctx context.Context, u user) (string, error) {
	_, err := c.store.user(ctx, c.organization.ID, u.id)
	if err == nil {
		return "", taken("there is a user with that userName")
	}
	if errs.KindOf(err) != errs.NotFound {
		return "", err
	}
	account, err := c.directory.User(ctx, u.id)
	if err != nil && errs.KindOf(err) != errs.NotFound {
		return "", err
	}
	if u.deleted && account.ManagedBy == c.organization.ID {
		return account.ID, nil
	}
	return "", c.store.forgetUser(ctx, c.organization.ID, u.id)
}

// revive brings an account of the organization back, and into it.
func (c *call) revive(ctx context.Context, u user, write func(context.Context, string, user) error) error {
	account, err := c.directory.UpdateProvisioned(ctx, c.actor, c.organization.ID, u.id, u.provisioned())
	if err != nil {
		return err
	}
	memberships, err := c.directory.Organizations(ctx, u.id)
	if err != nil {
		return err
	}
	in := false
	for _, m := range memberships {
		in = in || m.Organization.ID == c.organization.ID
	}
	if !in {
		if _, err := c.directory.AddMember(ctx, c.actor, c.organization.ID, account.Login, identity.RoleMember); err != nil {
			return err
		}
	}
	return write(ctx, c.organization.ID, u)
}

func patchUser(u *user, body resource) error {
	ops, err := operations(body)
	if err != nil {
		return err
	}
	for _, o := range ops {
		if err := o.apply(u); err != nil {
			return err
		}
	}
	return nil
}

// changeUser makes of a user what a PUT or PATCH says.
func (c *call) changeUser(id string, change func(*user, resource) error) error {
	body, err := readObject(c.r)
	if err != nil {
		return err
	}
	var after user
	err = c.db.Tx(c.r.Context(), func(ctx context.Context) error {
		before, err := c.store.lockUser(ctx, c.organization.ID, id)
		if err != nil {
			return err
		}
		if err := c.matched(before.meta); err != nil {
			return err
		}
		after = before
		if err := change(&after, body); err != nil {
			return err
		}
		// The account may differ from what was said of it last, so it is always told.
		account, err := c.directory.UpdateProvisioned(ctx, c.actor, c.organization.ID, id, after.provisioned())
		if err != nil || reflect.DeepEqual(before, after) {
			return err
		}
		if before.provisioned() == after.provisioned() { // the directory has seen no change
			err := c.record(ctx, c.organization.ID, c.actor.Did(audit.Event{
				Name: "scim-user-updated", Object: "user:" + account.Login, Decision: audit.Allow,
				Description: "The identity provider changed what it says of " + account.Login,
				Before:      before.facts(), After: after.facts(),
			}))
			if err != nil {
				return err
			}
		}
		if after.meta.modified, err = c.store.clock(ctx); err != nil {
			return err
		}
		after.meta.version++
		return c.store.updateUser(ctx, c.organization.ID, after)
	})
	if err != nil {
		return typed(err)
	}
	return c.showUser(http.StatusOK, after)
}

// deleteUser disables an account and takes it out of the organization. The last
// administrator is disabled too, but keeps the role: a site administrator appoints
// another one.
func (c *call) deleteUser(id string) error {
	err := c.db.Tx(c.r.Context(), func(ctx context.Context) error {
		u, err := c.store.lockUser(ctx, c.organization.ID, id)
		if err != nil {
			return err
		}
		if err := c.matched(u.meta); err != nil {
			return err
		}
		now, err := c.store.clock(ctx)
		if err != nil {
			return err
		}
		if err := c.store.dropUser(ctx, c.organization.ID, u, database.Micros(now)); err != nil {
			return err
		}
		u.active = false
		account, err := c.directory.UpdateProvisioned(ctx, c.actor, c.organization.ID, id, u.provisioned())
		if err != nil {
			return err
		}
		err = c.directory.RemoveMember(ctx, c.actor, c.organization.ID, account.Login)
		if errors.Is(err, errs.Conflict) || errors.Is(err, errs.NotFound) {
			return nil
		}
		return err
	})
	if err != nil {
		return typed(err)
	}
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}
