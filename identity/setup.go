package identity

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/internal/errs"
)

// First is the first user of an installation and the first organization.
type First struct {
	Login, Name, Email string // the user, who becomes site administrator
	Organization       string // its name, which the user administers
	Identity           Identity
}

// The connectors of the first user, for the audit record.
const (
	viaSetup     = "setup"
	viaBootstrap = "bootstrap"
)

// SetupCode returns a fresh one-time code for [Directory.CreateFirst] and makes
// every earlier code worthless. Once there is a user it returns "". The code has 260
// random bits; only its hash is stored.
func (d *Directory) SetupCode(ctx context.Context) (string, error) {
	code := rand.Text() + rand.Text()
	hash := sha256.Sum256([]byte(code))
	var open bool
	err := d.db.Tx(ctx, func(ctx context.Context) error {
		used, err := d.setUp(ctx)
		if err != nil || used {
			return err
		}
		open, err = d.store.setSetupCode(ctx, hash[:])
		return err
	})
	if err != nil || !open {
		return "", err
	}
	return code, nil
}

// setUp reports whether the installation has had its first user.
func (d *Directory) setUp(ctx context.Context) (bool, error) {
	_, done, err := d.store.setup(ctx)
	if err != nil || done {
		return done, err
	}
	return d.store.anyUser(ctx)
}

// CheckSetupCode returns nil when code would be accepted now, errs.NotFound once
// there is a user, and errs.Forbidden for any other code. It changes nothing, so a
// page may ask it before it shows a form.
func (d *Directory) CheckSetupCode(ctx context.Context, code string) error {
	// In this order: a set-up that is done in between has used the code up, and the
	// answer is that it is done.
	want, _, err := d.store.setup(ctx)
	if err != nil {
		return err
	}
	used, err := d.setUp(ctx)
	if err != nil {
		return err
	}
	if used {
		return errSetUp(errs.NotFound)
	}
	got := sha256.Sum256([]byte(code))
	if subtle.ConstantTimeCompare(got[:], want) != 1 {
		return errs.Errorf(errs.Forbidden, "this setup link is not valid: open the newest one that the server has printed at its start")
	}
	return nil
}

func errSetUp(kind errs.Kind) error {
	return errs.Errorf(kind, "this installation is set up already, sign in instead")
}

// CreateFirst makes the first user, a site administrator, and the first
// organization, with the user as its administrator. It takes the code that
// [Directory.SetupCode] gave last, once: of several calls at a time one succeeds.
// A wrong code is errs.Forbidden, and any code errs.NotFound once there is a user.
// It joins the transaction of ctx.
func (d *Directory) CreateFirst(ctx context.Context, code string, n First) (User, Organization, error) {
	return d.createFirst(ctx, viaSetup, n, func(ctx context.Context) error { return d.CheckSetupCode(ctx, code) })
}

// Bootstrap is [Directory.CreateFirst] for whoever commands the server and needs no
// code. With a user there it is errs.Conflict.
func (d *Directory) Bootstrap(ctx context.Context, n First) (User, Organization, error) {
	return d.createFirst(ctx, viaBootstrap, n, func(ctx context.Context) error {
		used, err := d.setUp(ctx)
		if used {
			return errSetUp(errs.Conflict)
		}
		return err
	})
}

func (d *Directory) createFirst(ctx context.Context, via string, n First, allowed func(context.Context) error) (User, Organization, error) {
	var user User
	var organization Organization
	err := d.db.Tx(ctx, func(ctx context.Context) error {
		// The lock comes before the check, so that the loser of a race sees the winner.
		if err := d.store.lockSite(ctx); err != nil {
			return err
		}
		if err := allowed(ctx); err != nil {
			return err
		}
		now, err := d.store.clock(ctx)
		if err != nil {
			return err
		}
		if err := d.store.finishSetup(ctx, now); err != nil {
			return err
		}
		user, err = d.CreateUser(ctx, Principal{Connector: via},
			NewUser{Login: n.Login, Name: n.Name, Email: n.Email, SiteAdmin: true, Identity: n.Identity})
		if err != nil {
			return err
		}
		organization, err = d.CreateOrganization(ctx, user.Principal(via), n.Organization, "")
		if err != nil {
			return err
		}
		return d.record(ctx, audit.Site, user.Principal(via).Event(audit.Event{
			Name: "site-setup-completed", Object: "site",
			Description: "Set the installation up with user " + user.Login + " and organization " + organization.Login,
			After:       facts("user", user.ID, "organization", organization.ID),
		}))
	})
	if err != nil {
		return User{}, Organization{}, err
	}
	return user, organization, nil
}
