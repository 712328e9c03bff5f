// Package email is the connector for signing in with an e-mail address, or a login,
// and a password.
//
// A password is stored as an argon2id hash (RFC 9106) with the parameters that OWASP
// recommends. Hashing costs a core up to a fifth of a second and 19 MiB, so one core
// is left to the rest of the program and at most 32 more wait for the others; beyond
// that callers get errs.Exhausted.
//
// Whoever fails to sign in learns one thing only: that it failed. An unknown account,
// a wrong password, a disabled user and one without a password have the same answer
// after the same work; signing up and asking for a new password tell nobody whether an
// address is known. Guessing is slowed down and never locks anybody out for good;
// throttle.go and limit.go have the numbers.
//
// A link in a mail carries 256 random bits, of which the SHA-256 is stored. It is good
// once, for minutes or hours, and only while the account is what it was. An address is
// proved before there is an account with it, or before an account moves to it.
//
// After the password an authenticator app may be asked for (RFC 6238), or one of ten
// recovery codes. A passkey (WebAuthn Level 2) with its user verified stands for both
// factors. Secrets are sealed at rest. Whatever changes how somebody signs in needs a
// session that began lately, is on record, and is told to the user by mail.
package email

import (
	"context"
	"embed"
	"errors"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/database"
	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/httpapi"
	"github.com/ipuka/ipuka/internal/mail"
	"github.com/ipuka/ipuka/internal/sealed"
)

//go:embed migrations/*.sql
var migrationFS embed.FS

// Migrations are the tables of this package. They come after [identity.Migrations].
var Migrations = database.Migrations{Name: "email", FS: migrationFS}

// Mailer sends mail. *mail.Mailer does; a message that is sent within a transaction is
// sent if that commits.
type Mailer interface {
	Send(ctx context.Context, m mail.Message) error
}

// Config is what a Connector needs.
type Config struct {
	Directory *identity.Directory
	DB        *database.DB
	Audit     identity.Recorder
	// Cost is what a hash costs; zero is [DefaultCost]. Hashes of another cost stay
	// valid and are made anew when their user signs in.
	Cost Cost
	// Now is the clock; nil is the process's own for the throttle and the database's
	// for all else.
	Now func() time.Time
	// Mail sends links and notices, and Box seals what is stored of second factors,
	// passkeys and pending sign-ups. Without them, or without ConsoleURL, passwords
	// work and all else is errs.Unavailable.
	Mail Mailer
	Box  *sealed.Box
	// ConsoleURL is where the links in mails lead, such as "https://ipuka.example.com".
	// Its host is what passkeys are bound to: another host makes all of them worthless.
	ConsoleURL string
	// SiteName is what the installation is called in mails and authenticators; "Ipuka"
	// when empty.
	SiteName string
	// SignUp lets people make accounts for themselves.
	SignUp bool
	// PasswordLogin lets people sign in by a password or a passkey. Without it nobody
	// does, site administrators included.
	PasswordLogin bool
}

// Settings say what people can do here.
type Settings struct{ SignUp, PasswordLogin bool }

// Connector signs users in. It is safe for concurrent use.
type Connector struct {
	directory *identity.Directory
	db        *database.DB
	store     store
	audit     identity.Recorder
	pool      *pool
	throttle  *throttle
	dummy     hash // what a password is compared with when there is nothing to compare with

	now      func() time.Time // nil: the database's clock
	mail     Mailer
	box      *sealed.Box
	console  string // without a slash at the end
	site     string
	settings Settings
	webauthn *webauthn.WebAuthn // nil where there can be no passkeys
	swept    atomic.Int64
}

// New returns a connector for the users of a directory.
func New(config Config) (*Connector, error) {
	if config.Directory == nil || config.DB == nil || config.Audit == nil {
		return nil, errors.New("email: a directory, a database and an audit log are needed")
	}
	if config.Cost == (Cost{}) {
		config.Cost = DefaultCost
	}
	if err := config.Cost.check(); err != nil {
		return nil, err
	}
	if config.SiteName == "" {
		config.SiteName = "Ipuka"
	}
	throttleNow := config.Now
	if throttleNow == nil {
		throttleNow = time.Now
	}
	// One core stays free of hashing, so that people who sign in keep nobody waiting who
	// does something else.
	slots := max(1, runtime.GOMAXPROCS(0)-1)
	c := &Connector{
		directory: config.Directory,
		db:        config.DB,
		store:     store{db: config.DB},
		audit:     config.Audit,
		pool:      newPool(slots, config.Cost),
		throttle:  newThrottle(throttleNow),
		dummy:     config.Cost.dummy(),
		now:       config.Now,
		mail:      config.Mail,
		box:       config.Box,
		console:   strings.TrimRight(config.ConsoleURL, "/"),
		site:      httpapi.Clean(config.SiteName, 100),
		settings:  Settings{SignUp: config.SignUp && config.PasswordLogin, PasswordLogin: config.PasswordLogin},
	}
	c.directory.OnDelete(c.store.forget)
	var err error
	c.webauthn, err = newWebAuthn(c.console, c.site)
	return c, err
}

// Settings returns what people can do here.
func (c *Connector) Settings() Settings { return c.settings }

// clock returns the time that links and codes are judged by.
func (c *Connector) clock(ctx context.Context) (time.Time, error) {
	if c.now != nil {
		return c.now().UTC().Truncate(time.Microsecond), nil
	}
	return c.db.Now(ctx)
}

// complete is errs.Unavailable while what a Config may leave out is left out.
func (c *Connector) complete() error {
	if c.mail == nil || c.box == nil || c.console == "" {
		return errs.Errorf(errs.Unavailable, "this needs mail, which is not set up here: ask the administrator")
	}
	return nil
}

// signInOff is errs.NotFound while nobody signs in here.
func (c *Connector) signInOff() error {
	if !c.settings.PasswordLogin {
		return errs.Errorf(errs.NotFound, "nobody signs in by a password here")
	}
	return c.complete()
}

// Setup makes the first user, with a password, and the first organization, in one
// transaction; see [identity.Directory.CreateFirst] for the code and the errors. A
// refused attempt is on record.
func (c *Connector) Setup(ctx context.Context, code string, n identity.First, password string) (identity.User, identity.Organization, error) {
	user, organization, err := c.setup(ctx, code, n, password)
	switch errs.KindOf(err) {
	case errs.Forbidden, errs.NotFound:
		e := audit.Event{Name: "site-setup-failed", Object: "site", Description: "Refused to set the installation up", Rule: "setup_closed"}
		if errs.KindOf(err) == errs.Forbidden {
			e.Rule = "setup_code_wrong"
		}
		if failed := c.deny(ctx, e, c.throttle.refuse(&c.throttle.setups)); failed != nil {
			err = failed
		}
	}
	return user, organization, err
}

func (c *Connector) setup(ctx context.Context, code string, n identity.First, password string) (identity.User, identity.Organization, error) {
	// Whoever has not the code shall not make us hash.
	if err := c.directory.CheckSetupCode(ctx, code); err != nil {
		return identity.User{}, identity.Organization{}, err
	}
	return c.first(ctx, n, password, func(ctx context.Context, n identity.First) (identity.User, identity.Organization, error) {
		return c.directory.CreateFirst(ctx, code, n)
	})
}

// Bootstrap is [Connector.Setup] for whoever commands the server and needs no code;
// see [identity.Directory.Bootstrap].
func (c *Connector) Bootstrap(ctx context.Context, n identity.First, password string) (identity.User, identity.Organization, error) {
	return c.first(ctx, n, password, c.directory.Bootstrap)
}

func (c *Connector) first(ctx context.Context, n identity.First, password string, create func(context.Context, identity.First) (identity.User, identity.Organization, error)) (user identity.User, organization identity.Organization, err error) {
	address, err := identity.CanonicalEmail(n.Email)
	if err != nil {
		return user, organization, err
	}
	if err := ValidPassword(password, n.Login, address); err != nil {
		return user, organization, err
	}
	encoded, err := c.hash(ctx, password)
	if err != nil {
		return user, organization, err
	}
	n.Identity = identity.Identity{Connector: identity.EmailConnector, Subject: address}
	err = c.db.Tx(ctx, func(ctx context.Context) error {
		if user, organization, err = create(ctx, n); err != nil {
			return err
		}
		return c.store.setPassword(ctx, user.ID, encoded)
	})
	if err != nil {
		return identity.User{}, identity.Organization{}, err
	}
	return user, organization, nil
}
