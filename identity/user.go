package identity

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/internal/errs"
)

// User is a person.
type User struct {
	ID        string // immutable
	Login     string // as its owner spells it; compared without regard to case
	Name      string // to be shown; the login when there is no other
	Email     string // canonical, or empty; see the package comment on what it does not mean
	AvatarURL string
	SiteAdmin bool      // may administer the installation
	Disabled  time.Time // since when none of the user's credentials is accepted; zero while they are
	Created   time.Time

	EmailVerified bool   // somebody vouched for Email, or it was confirmed
	ManagedBy     string // ID of the organization whose identity provider owns the account; "" for none
	DisabledBy    string // "admin", "scim:ORGANIZATION", "connector:NAME" or "organization:ID", of a deleted one
}

// Principal returns u as a caller, for whoever has authenticated the user by other
// means than a session or a token: a connector, or a command on the server.
func (u User) Principal(connector string) Principal {
	return Principal{
		UserID: u.ID, Login: u.Login, Name: u.Name, Email: u.Email, AvatarURL: u.AvatarURL,
		SiteAdmin: u.SiteAdmin, Connector: connector, ManagedBy: u.ManagedBy,
	}
}

// EmailConnector is the connector of the identities that sign in with an e-mail
// address and a password. Their subject is the canonical address.
const EmailConnector = "email"

// Identity is what a connector calls a user: the connector's instance ("email", or
// the name of a configured one) and an ID that is immutable and unique there.
type Identity struct {
	Connector string
	Subject   string
}

// NewUser is what a user is made of.
type NewUser struct {
	Login     string // as [ValidLogin] has it
	Name      string // the login when empty
	Email     string // may be empty
	AvatarURL string // https, or empty
	SiteAdmin bool
	Identity  Identity // how the user signs in; none when zero
}

// CreateUser adds a user. A login that a user or an organization has, in whatever
// case, or an identity that a user has is errs.Conflict.
func (d *Directory) CreateUser(ctx context.Context, actor Principal, n NewUser) (User, error) {
	user := User{ID: uuid.NewString(), Login: n.Login, Name: clean(n.Name, maxName), AvatarURL: n.AvatarURL, SiteAdmin: n.SiteAdmin}
	if err := ValidLogin(n.Login); err != nil {
		return User{}, err
	}
	if user.Name == "" {
		user.Name = user.Login
	}
	if n.AvatarURL != "" && !validAvatar(n.AvatarURL) {
		return User{}, errAvatar()
	}
	if n.Email != "" {
		email, err := CanonicalEmail(n.Email)
		if err != nil {
			return User{}, err
		}
		user.Email = email
	}
	err := d.db.Tx(ctx, func(ctx context.Context) error {
		now, err := d.store.clock(ctx)
		if err != nil {
			return err
		}
		user.Created = now
		if err := d.store.insertUser(ctx, user); err != nil {
			return err
		}
		if n.Identity != (Identity{}) {
			if err := d.store.insertIdentity(ctx, user.ID, n.Identity, now); err != nil {
				return err
			}
		}
		if actor.UserID == "" && actor.Connector != "" {
			actor = user.Principal(actor.Connector) // who sets the installation up
		}
		return d.record(ctx, audit.Site, actor.Did(audit.Event{
			Name: "user-created", Object: "user:" + user.Login,
			Description: "Created user " + user.Login,
			After:       facts("id", user.ID, "login", user.Login, "email", user.Email, "siteAdmin", yes(user.SiteAdmin), "connector", n.Identity.Connector),
		}))
	})
	if err != nil {
		return User{}, err
	}
	return user, nil
}

// AddIdentity lets a user sign in with one identity more. An identity that the user
// has already stays as it is; one of somebody else is errs.Conflict.
func (d *Directory) AddIdentity(ctx context.Context, actor Principal, userID string, i Identity) error {
	return d.db.Tx(ctx, func(ctx context.Context) error {
		user, err := d.store.user(ctx, userID)
		if err != nil {
			return err
		}
		now, err := d.store.clock(ctx)
		if err != nil {
			return err
		}
		if owner, err := d.store.identityOwner(ctx, i); err != nil || owner == userID {
			return err
		}
		if err := d.store.insertIdentity(ctx, userID, i, now); err != nil {
			return err
		}
		return d.record(ctx, audit.Site, actor.Did(audit.Event{
			Name: "user-added-new-identity-to-their-account", Object: "user:" + user.Login,
			Description: "Added a way to sign in to user " + user.Login,
			After:       facts("connector", i.Connector),
		}))
	})
}

// Identities returns how a user can sign in.
func (d *Directory) Identities(ctx context.Context, userID string) ([]Identity, error) {
	return d.store.identities(ctx, userID)
}

// User returns the user with an ID, disabled or not; errs.NotFound without one.
func (d *Directory) User(ctx context.Context, id string) (User, error) {
	return d.store.user(ctx, id)
}

// UserByLogin returns the user with a login, in whatever case.
func (d *Directory) UserByLogin(ctx context.Context, login string) (User, error) {
	if !grammatical(login) {
		return User{}, errNoUser()
	}
	return d.store.userByName(ctx, fold(login))
}

// UserByIdentity returns the user whom a connector calls i.Subject.
func (d *Directory) UserByIdentity(ctx context.Context, i Identity) (User, error) {
	return d.store.userByIdentity(ctx, i)
}

// UserByEmail returns the user who signs in with an e-mail address and a password.
// It does not find users who have the address from another connector.
func (d *Directory) UserByEmail(ctx context.Context, address string) (User, error) {
	email, err := CanonicalEmail(address)
	if err != nil {
		return User{}, errNoUser()
	}
	return d.UserByIdentity(ctx, Identity{Connector: EmailConnector, Subject: email})
}

func errNoUser() error { return errs.Errorf(errs.NotFound, "there is no such user") }

// Disable refuses all credentials of a user from the next request on: the sessions
// end, the access tokens are refused until [Directory.Enable]. The last site
// administrator cannot be disabled (errs.Conflict). The last administrator of an
// organization can: whoever has left must be kept out, and a site administrator
// appoints another.
func (d *Directory) Disable(ctx context.Context, actor Principal, userID string) error {
	return d.setDisabled(ctx, actor, userID, true)
}

// Enable takes [Directory.Disable] back. Sessions stay ended.
func (d *Directory) Enable(ctx context.Context, actor Principal, userID string) error {
	return d.setDisabled(ctx, actor, userID, false)
}

// byAdmin is who has disabled a user where somebody here did.
const byAdmin = "admin"

func (d *Directory) setDisabled(ctx context.Context, actor Principal, userID string, disable bool) error {
	return d.db.Tx(ctx, func(ctx context.Context) error {
		if err := d.store.lockSite(ctx); err != nil {
			return err
		}
		user, err := d.store.user(ctx, userID)
		if err != nil {
			return err
		}
		// Whom a provider has disabled it could enable again: not after an administrator has
		// said so too.
		if disable && !user.Disabled.IsZero() && user.DisabledBy == byAdmin || !disable && user.Disabled.IsZero() {
			return nil
		}
		now, err := d.store.clock(ctx)
		if err != nil {
			return err
		}
		event := audit.Event{Name: "user-enabled", Object: "user:" + user.Login, Description: "Enabled user " + user.Login}
		if disable {
			event.Name, event.Description = "user-disabled", "Disabled user "+user.Login
			err = d.disable(ctx, user, now)
		} else {
			err = d.store.setDisabled(ctx, userID, time.Time{}, "")
		}
		if err != nil {
			return err
		}
		d.changed(ctx, "")
		return d.record(ctx, audit.Site, actor.Did(event))
	})
}

func (d *Directory) disable(ctx context.Context, user User, now time.Time) error {
	if err := d.keepSiteAdmin(ctx, user); err != nil {
		return err
	}
	if err := d.store.endSessions(ctx, user.ID, now); err != nil {
		return err
	}
	return d.store.setDisabled(ctx, user.ID, now, byAdmin)
}

// keepSiteAdmin refuses to lose the last site administrator who can sign in. The site
// must be locked.
func (d *Directory) keepSiteAdmin(ctx context.Context, user User) error {
	if !user.SiteAdmin {
		return nil
	}
	others, err := d.store.countOtherSiteAdmins(ctx, user.ID)
	if err == nil && others == 0 {
		return errs.Errorf(errs.Conflict, "%s is the last site administrator, appoint another one first", user.Login)
	}
	return err
}

// facts makes the facts of an event from names and values, without the empty ones.
func facts(pairs ...string) map[string]string {
	m := make(map[string]string, len(pairs)/2)
	for pair := range slices.Chunk(pairs, 2) {
		if name, value := pair[0], pair[len(pair)-1]; value != "" {
			m[name] = value
		}
	}
	return m
}

func yes(b bool) string {
	if b {
		return "true"
	}
	return ""
}
