package identity

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/internal/errs"
)

// Profile is what users change of their own account: what is not nil.
type Profile struct{ Name, AvatarURL *string }

// UpdateProfile changes a user's profile. An empty name becomes the login, an empty
// picture none. Nothing is recorded when nothing changes.
func (d *Directory) UpdateProfile(ctx context.Context, actor Principal, userID string, p Profile) error {
	if p.AvatarURL != nil && *p.AvatarURL != "" && !validAvatar(*p.AvatarURL) {
		return errAvatar()
	}
	return d.changeUser(ctx, actor, userID, func(u *User) {
		if p.Name != nil {
			if u.Name = clean(*p.Name, maxName); u.Name == "" {
				u.Name = u.Login
			}
		}
		if p.AvatarURL != nil {
			u.AvatarURL = *p.AvatarURL
		}
	})
}

func errAvatar() error {
	return errs.Errorf(errs.Invalid, "the picture's address must begin with https://")
}

// SetEmail sets a user's address, verified or not; "" is none. It is the contact
// address; who signs in with it is the business of package email. It joins the
// transaction of ctx.
func (d *Directory) SetEmail(ctx context.Context, actor Principal, userID, address string, verified bool) error {
	if address != "" {
		canonical, err := CanonicalEmail(address)
		if err != nil {
			return err
		}
		address = canonical
	}
	return d.changeUser(ctx, actor, userID, func(u *User) { u.Email, u.EmailVerified = address, verified && address != "" })
}

// changeUser changes what saveUser writes of a user, and records it when something has
// changed.
func (d *Directory) changeUser(ctx context.Context, actor Principal, userID string, change func(*User)) error {
	return d.db.Tx(ctx, func(ctx context.Context) error {
		before, err := d.store.lockUser(ctx, userID)
		if err != nil {
			return err
		}
		after := before
		change(&after)
		if after == before {
			return nil
		}
		if err := d.store.saveUser(ctx, after); err != nil {
			return err
		}
		return d.record(ctx, audit.Site, actor.Did(updatedEvent(before, after)))
	})
}

// updatedEvent says what of an account has changed.
func updatedEvent(before, after User) audit.Event {
	was, is := profileFacts(before), profileFacts(after)
	for name, value := range is {
		if was[name] == value {
			delete(was, name)
			delete(is, name)
		}
	}
	return audit.Event{
		Name: "user-updated", Object: "user:" + after.Login, Description: "Updated user " + after.Login,
		Before: nonempty(was), After: nonempty(is),
	}
}

func profileFacts(u User) map[string]string {
	verified := "false"
	if u.EmailVerified {
		verified = "true"
	}
	return map[string]string{
		"login": u.Login, "name": u.Name, "email": u.Email, "emailVerified": verified, "avatar": u.AvatarURL,
	}
}

// nonempty returns m, or nil.
func nonempty(m map[string]string) map[string]string {
	if len(m) == 0 {
		return nil
	}
	return m
}

// maxFormerLogins bounds the logins that a user can use up, since none is ever free
// again.
const maxFormerLogins = 10

// RenameUser changes a login. The old one stays the user's, and finds them; they can
// have it back. A login that somebody else has or had is errs.Conflict, and so is a
// user who has had too many.
func (d *Directory) RenameUser(ctx context.Context, actor Principal, userID, login string) error {
	if err := ValidLogin(login); err != nil {
		return err
	}
	return d.db.Tx(ctx, func(ctx context.Context) error {
		before, err := d.store.lockUser(ctx, userID)
		if err != nil || before.Login == login {
			return err
		}
		if err := d.claimLogin(ctx, userID, login); err != nil {
			return err
		}
		after := before
		after.Login = login
		if before.Name == before.Login {
			after.Name = login // nobody has given them another
		}
		if err := d.store.saveUser(ctx, after); err != nil {
			return err
		}
		return d.record(ctx, audit.Site, actor.Did(updatedEvent(before, after)))
	})
}

// claimLogin makes login one of the names of a user.
func (d *Directory) claimLogin(ctx context.Context, userID, login string) error {
	names, err := d.store.namesOf(ctx, userID)
	if err != nil || slices.Contains(names, fold(login)) {
		return err
	}
	if len(names) > maxFormerLogins {
		return errs.Errorf(errs.Conflict, "the login has been changed %d times: take one of the former ones back", maxFormerLogins)
	}
	got, err := d.store.tryName(ctx, login, userID)
	if err == nil && !got {
		err = errs.Errorf(errs.Conflict, "the name %q is taken, choose another one", login)
	}
	return err
}

// DeleteUser ends an account for good: memberships, identities, sessions and tokens
// go, what described the person is forgotten, the names stay taken. The last
// administrator of an organization with other members, or of the site, is
// errs.Conflict.
func (d *Directory) DeleteUser(ctx context.Context, actor Principal, userID string) error {
	return d.db.Tx(ctx, func(ctx context.Context) error {
		if err := d.store.lockSite(ctx); err != nil {
			return err
		}
		user, err := d.store.lockUser(ctx, userID)
		if err != nil {
			return err
		}
		now, err := d.store.clock(ctx)
		if err != nil {
			return err
		}
		if err := d.keepSiteAdmin(ctx, user); err != nil {
			return err
		}
		places, err := d.store.placesOf(ctx, userID)
		if err != nil {
			return err
		}
		if len(places) > 0 {
			if err := d.store.lockOrganizations(ctx, places); err != nil {
				return err
			}
		}
		orphan, err := d.store.orphaned(ctx, userID)
		if err != nil {
			return err
		}
		if orphan != "" {
			return errs.Errorf(errs.Conflict, "%s is the last administrator of organization %s, appoint another one first", user.Login, orphan)
		}
		if err := d.store.deleteUser(ctx, userID, places, now); err != nil {
			return err
		}
		d.mu.Lock()
		forget := slices.Clone(d.onDelete)
		d.mu.Unlock()
		for _, fn := range forget {
			if err := fn(ctx, userID); err != nil {
				return err
			}
		}
		var t trail
		for _, organizationID := range places {
			t.touch(organizationID)
			t.add(organizationID, actor.Did(audit.Event{
				Name: "member-removed", Object: "user:" + user.Login,
				Description: "Removed " + user.Login + ", whose account was deleted", Before: facts("user", userID),
			}))
		}
		t.add(audit.Site, actor.Did(audit.Event{
			Name: "user-deleted", Object: "user:" + user.Login, Description: "Deleted user " + user.Login, Before: facts("id", userID),
		}))
		return d.finish(ctx, t)
	})
}

// SetSiteAdmin makes a user site administrator or not; the last one stays
// (errs.Conflict). It holds from the next request on.
func (d *Directory) SetSiteAdmin(ctx context.Context, actor Principal, userID string, admin bool) error {
	return d.db.Tx(ctx, func(ctx context.Context) error {
		if err := d.store.lockSite(ctx); err != nil {
			return err
		}
		user, err := d.store.lockUser(ctx, userID)
		if err != nil || user.SiteAdmin == admin {
			return err
		}
		e := audit.Event{
			Name: "user-site-administrator-changed", Object: "user:" + user.Login,
			Description: "Made " + user.Login + " a site administrator", After: facts("siteAdmin", "true"),
		}
		if !admin {
			if err := d.keepSiteAdmin(ctx, user); err != nil {
				return err
			}
			e.Description = "Took the site administration from " + user.Login
			e.Before, e.After = e.After, nil
		}
		user.SiteAdmin = admin
		if err := d.store.saveUser(ctx, user); err != nil {
			return err
		}
		d.changed(ctx, "")
		return d.record(ctx, audit.Site, actor.Did(e))
	})
}

// UserQuery selects users of the site administrator's list.
type UserQuery struct {
	Text   string // in login, name or e-mail, in whatever case of ASCII letters
	Cursor string // of the page before; "" for the first page
	Limit  int    // 0 is 100, more than 1000 is 1000
}

// Users returns a page of all users by login, disabled ones included, and the next
// cursor, "" after the last page.
func (d *Directory) Users(ctx context.Context, q UserQuery) ([]User, string, error) {
	after, err := decodeCursor(q.Cursor, 1)
	if err != nil {
		return nil, "", err
	}
	limit := pageSize(q.Limit)
	users, err := d.store.users(ctx, strings.ToLower(clean(q.Text, maxName)), after[0], limit+1)
	if err != nil || len(users) <= limit {
		return users, "", err
	}
	users = users[:limit]
	return users, encodeCursor(fold(users[limit-1].Login)), nil
}

// byDeletion is who has disabled the accounts of an organization that was deleted.
func byDeletion(organizationID string) string { return "organization:" + organizationID }

// closeManaged ends all sessions of the accounts that an organization manages and
// refuses their tokens, for when it is deleted. It is done here, once, so that no
// request has to ask whether an organization is still there.
func (d *Directory) closeManaged(ctx context.Context, organizationID string, now time.Time) error {
	return d.store.closeManaged(ctx, organizationID, byDeletion(organizationID), now)
}

// openManaged takes closeManaged back, but for the sessions.
func (d *Directory) openManaged(ctx context.Context, organizationID string) error {
	return d.store.openManaged(ctx, organizationID, byDeletion(organizationID))
}
