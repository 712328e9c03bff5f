// Package email is the connector for signing in with an e-mail address, or a login,
// and a password.
//
// A password is stored as an argon2id hash (RFC 9106) with the parameters that OWASP
// recommends. Hashing costs a fifth of a second and 19 MiB, so at most GOMAXPROCS
// hashes are made at a time and at most 32 more wait; beyond that callers get
// errs.Exhausted and the rest of the program stays quick.
//
// Whoever fails to sign in learns one thing only: that it failed. An unknown account,
// a wrong password, a disabled user and one without a password have the same answer
// after the same work. Guessing is slowed down and never locks anybody out for good;
// throttle.go has the numbers.
package email

import (
	"context"
	"embed"
	"errors"
	"runtime"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/database"
	"github.com/ipuka/ipuka/internal/errs"
)

//go:embed migrations/*.sql
var migrationFS embed.FS

// Migrations are the tables of this package. They come after [identity.Migrations].
var Migrations = database.Migrations{Name: "email", FS: migrationFS}

// Config is what a Connector needs.
type Config struct {
	Directory *identity.Directory
	DB        *database.DB
	Audit     identity.Recorder
	// Cost is what a hash costs; zero is [DefaultCost]. Hashes of another cost stay
	// valid and are made anew when their user signs in.
	Cost Cost
	// Now is the clock of the throttle; nil is the process's own.
	Now func() time.Time
}

// Connector signs users in. It is safe for concurrent use.
type Connector struct {
	directory *identity.Directory
	db        *database.DB
	store     store
	audit     identity.Recorder
	pool      *pool
	throttle  *throttle
	dummy     hash // what a password is compared with when there is nothing to compare with
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
	if config.Now == nil {
		config.Now = time.Now
	}
	return &Connector{
		directory: config.Directory,
		db:        config.DB,
		store:     store{db: config.DB},
		audit:     config.Audit,
		pool:      newPool(runtime.GOMAXPROCS(0), config.Cost),
		throttle:  newThrottle(config.Now),
		dummy:     config.Cost.dummy(),
	}, nil
}

// The length of a password, in characters after normalisation (NFC).
const (
	MinPassword = 12
	MaxPassword = 256
)

// maxPasswordBytes bounds what is normalised at all.
const maxPasswordBytes = 8 << 10

// ValidPassword returns nil when password may be the password of a user with a login
// and an e-mail address, and otherwise an errs.Invalid that says why not.
func ValidPassword(password, login, address string) error {
	text, err := normalize(password)
	if err != nil {
		return err
	}
	if n := utf8.RuneCountInString(text); n < MinPassword || n > MaxPassword {
		return errs.Errorf(errs.Invalid, "a password has %d to %d characters", MinPassword, MaxPassword)
	}
	if strings.ContainsFunc(text, unicode.IsControl) {
		return errs.Errorf(errs.Invalid, "a password has no control characters, such as line breaks")
	}
	bare := strings.TrimSpace(text)
	if bare == "" {
		return errs.Errorf(errs.Invalid, "a password is more than spaces")
	}
	if strings.EqualFold(bare, login) || strings.EqualFold(bare, address) {
		return errs.Errorf(errs.Invalid, "the password must differ from the login and the e-mail address")
	}
	return nil
}

// normalize returns the one form of a password that is hashed, so that keyboards
// that compose letters differently agree (NIST SP 800-63B §5.1.1.2).
func normalize(password string) (string, error) {
	if len(password) > maxPasswordBytes || !utf8.ValidString(password) {
		return "", errs.Errorf(errs.Invalid, "a password has %d to %d characters", MinPassword, MaxPassword)
	}
	return norm.NFC.String(password), nil
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

// SetPassword gives a user a password, the first or a new one, and ends all of the
// user's sessions. The caller has made sure that actor may: a user who changes the
// own password has just proved to know the old one. From then on the user can also
// sign in by the e-mail address on file; an address that somebody else signs in with
// is errs.Conflict.
func (c *Connector) SetPassword(ctx context.Context, actor identity.Principal, userID, password string) error {
	user, err := c.directory.User(ctx, userID)
	if err != nil {
		return err
	}
	if err := ValidPassword(password, user.Login, user.Email); err != nil {
		return err
	}
	encoded, err := c.hash(ctx, password)
	if err != nil {
		return err
	}
	return c.db.Tx(ctx, func(ctx context.Context) error {
		if user.Email != "" {
			i := identity.Identity{Connector: identity.EmailConnector, Subject: user.Email}
			if err := c.directory.AddIdentity(ctx, actor, userID, i); err != nil {
				return err
			}
		}
		if err := c.store.setPassword(ctx, userID, encoded); err != nil {
			return err
		}
		event := actor.Did(audit.Event{
			Name: "user-password-changed", Object: "user:" + user.Login,
			Description: "Changed the password of " + user.Login, Decision: audit.Allow,
		})
		if _, err := c.audit.AppendDone(ctx, audit.Site, event, audit.Outcome{Result: audit.Succeeded}); err != nil {
			return err
		}
		return c.directory.EndSessions(ctx, actor, userID)
	})
}

// hash returns the encoded hash of a valid password.
func (c *Connector) hash(ctx context.Context, password string) (string, error) {
	text, err := normalize(password)
	if err != nil {
		return "", err
	}
	var h hash
	if err := c.pool.run(ctx, func() { h = c.pool.cost.hash(text) }); err != nil {
		return "", err
	}
	return h.String(), nil
}
