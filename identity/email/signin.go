package email

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/httpapi"
)

// The reasons of a failed sign-in, as they stand in the audit record.
const (
	UnknownAccount   = "unknown_account"
	NoPassword       = "no_password"
	WrongPassword    = "wrong_password"
	AccountDisabled  = identity.UserDisabled
	ThrottledAccount = "throttled_account"
	ThrottledNetwork = "throttled_network"
	PasswordChanged  = "password_changed" // while it was being checked
	Overloaded       = "overloaded"       // too many at the same moment
	PasswordLoginOff = "password_login_off"
)

// The reasons why a link, a second factor or a passkey was refused.
const (
	ThrottledAddress = "throttled_address"
	CodeUnknown      = "code_unknown"
	CodeExpired      = "code_expired"
	CodeUsed         = "code_used"
	CodeVoid         = "code_void" // the account has changed since
	MFAOff           = "mfa_off"
	WrongCode        = "mfa_code_wrong"
	ReplayedCode     = "mfa_code_replayed"
	PasskeyRefused   = "passkey_refused"
	PasskeyUnknown   = "passkey_unknown"
	PasskeyReplayed  = "passkey_replayed"
	PasskeyExpired   = "passkey_expired"
	PasskeyCloned    = "passkey_cloned"
)

// SignIn returns the user with a login or an e-mail address, in any spelling of
// letter case, and a password. It begins no session.
//
// All failures are one *[identity.Refusal] (errs.Unauthenticated) with one text.
// After too many of them it is errs.Exhausted, for accounts that do not exist just
// as well; errs.Exhausted also when too many sign in at the same moment. Failures
// are on record before SignIn returns: an audit log that cannot be written is
// errs.Unavailable. It is the first factor only: whoever calls goes on to ask for the
// second one, see [Connector.Factors].
func (c *Connector) SignIn(ctx context.Context, loginOrEmail, password string) (identity.User, error) {
	if !c.settings.PasswordLogin {
		return identity.User{}, c.closed(ctx, "the login or the password is wrong")
	}
	text, err := normalize(password)
	if err != nil {
		return identity.User{}, err
	}
	found, err := c.find(ctx, loginOrEmail)
	if err != nil {
		return identity.User{}, err
	}
	from, err := c.judge(ctx, &found, text)
	if err != nil {
		return identity.User{}, err
	}
	if found.reason == "" {
		// Hashing took long. A password that was changed meanwhile has ended all sessions,
		// and must not begin one more.
		if found.reason, err = c.recheck(ctx, found); err != nil {
			return identity.User{}, err
		}
	}
	if found.reason != "" {
		return identity.User{}, c.fail(ctx, found)
	}
	from.attempt.forget()
	c.succeeded(ctx, found, text, from.network)
	return found.user, nil
}

// try is an attempt that was judged, and the network that it came from.
type try struct {
	attempt attempt
	network string
}

// judge compares a password with the one of an account and says in found.reason
// whether it is wrong. The try counts, as a failure until somebody forgets it. The
// error says that nothing was compared.
func (c *Connector) judge(ctx context.Context, found *candidate, text string) (try, error) {
	t := try{network: network(httpapi.RequestOf(ctx).Address)}
	known, err := c.store.knowsOrigin(ctx, found.user.ID, t.network)
	if err != nil {
		return t, err
	}
	attempt, refused, ok := c.throttle.begin(found.user.ID, found.name, t.network, known)
	if !ok {
		return t, c.throttled(ctx, found.user, refused)
	}
	t.attempt = attempt
	now, err := c.clock(ctx)
	if err != nil {
		return t, err
	}
	others := failuresOf(found.user.ID, found.name, t.network, now)
	if reason, err := c.exceeded(ctx, others, t.network, known); err != nil || reason != "" {
		attempt.forget()
		if err != nil {
			return t, err
		}
		return t, c.throttled(ctx, found.user, refusal{reason, c.throttle.note(found.user.ID, found.name, t.network, reason)})
	}
	var match bool
	if err := c.pool.run(ctx, func() { match = found.hash.matches(text) }); err != nil {
		attempt.forget()
		return t, c.overloaded(ctx, err)
	}
	if found.reason == "" && !match {
		found.reason = WrongPassword
	}
	if found.reason != "" {
		return t, c.failed(ctx, others, now)
	}
	return t, nil
}

// candidate is the account that somebody wants to sign in to.
type candidate struct {
	name    string        // canonical, of what was typed
	user    identity.User // zero when there is none
	encoded string        // of the password on file
	hash    hash          // of that, or one that nothing matches
	reason  string        // why nothing can match
}

// find looks an account up. Whatever it finds, it has asked the database the same
// questions, and there is a hash to compare with.
func (c *Connector) find(ctx context.Context, loginOrEmail string) (candidate, error) {
	typed := strings.TrimSpace(loginOrEmail) // folded only once it is known to be ASCII
	found := candidate{name: strings.ToLower(typed), hash: c.dummy}
	var err error
	if strings.Contains(typed, "@") {
		found.user, err = c.directory.UserByEmail(ctx, typed)
	} else {
		found.user, err = c.directory.UserByLogin(ctx, typed)
	}
	if err != nil && errs.KindOf(err) != errs.NotFound {
		return found, err
	}
	if found.encoded, err = c.store.password(ctx, found.user.ID); err != nil {
		return found, err
	}
	switch {
	case found.user.ID == "":
		found.reason = UnknownAccount
	case !found.user.Disabled.IsZero():
		found.reason = AccountDisabled
	case found.encoded == "":
		found.reason = NoPassword
	default:
		found.hash, err = parseHash(found.encoded)
	}
	return found, err
}

// recheck returns why an account whose password matched must not be let in any more.
func (c *Connector) recheck(ctx context.Context, found candidate) (string, error) {
	user, err := c.directory.User(ctx, found.user.ID)
	if err != nil {
		return "", err
	}
	encoded, err := c.store.password(ctx, user.ID)
	switch {
	case err != nil:
		return "", err
	case !user.Disabled.IsZero():
		return AccountDisabled, nil
	case encoded != found.encoded:
		return PasswordChanged, nil
	case user.Email == "":
		return "", nil // somebody without an address, who signs in by login only
	}
	identities, err := c.directory.Identities(ctx, user.ID)
	if err != nil {
		return "", err
	}
	if !slices.ContainsFunc(identities, func(i identity.Identity) bool { return i.Connector == identity.EmailConnector }) {
		return NoPassword, nil // unlinked: the password that is left opens nothing
	}
	return "", nil
}

// fail puts a failed sign-in on record and returns its error.
func (c *Connector) fail(ctx context.Context, found candidate) error {
	if err := c.refused(ctx, found.reason, found.user, 1); err != nil {
		return err
	}
	return identity.Refuse(found.reason, found.user.Principal(identity.EmailConnector), "the login or the password is wrong")
}

// closed refuses a sign-in since nobody signs in here, and puts that on record at
// most once a minute.
func (c *Connector) closed(ctx context.Context, public string) error {
	if err := c.refused(ctx, PasswordLoginOff, identity.User{}, c.throttle.refuse(&c.throttle.closed)); err != nil {
		return err
	}
	return identity.Refuse(PasswordLoginOff, identity.Principal{Connector: identity.EmailConnector}, public)
}

func (c *Connector) throttled(ctx context.Context, user identity.User, r refusal) error {
	if err := c.refused(ctx, r.reason, user, r.count); err != nil {
		return err
	}
	return errs.Errorf(errs.Exhausted, "too many failed attempts to sign in, wait up to %d minutes and try again", int(window.Minutes()))
}

// overloaded returns err, which says that there was no slot to hash in.
func (c *Connector) overloaded(ctx context.Context, err error) error {
	if errs.KindOf(err) != errs.Exhausted {
		return err
	}
	if failed := c.refused(ctx, Overloaded, identity.User{}, c.throttle.refuse(&c.throttle.overloads)); failed != nil {
		return failed
	}
	return err
}

// refused records the denial of a number of attempts to sign in; none of 0. What was
// typed as the name of an account that does not exist is not recorded: it may be a
// password.
func (c *Connector) refused(ctx context.Context, reason string, user identity.User, attempts int) error {
	e := audit.Event{Name: "user-login-failed", Object: "user", Description: "Refused a sign-in", Rule: reason}
	if user.ID != "" {
		e.Object = "user:" + user.Login
		e.Description = "Refused a sign-in as " + user.Login
	}
	return c.deny(ctx, e, attempts)
}

// deny records that somebody unknown was refused something a number of times.
func (c *Connector) deny(ctx context.Context, e audit.Event, attempts int) error {
	if attempts == 0 {
		return nil
	}
	e.Actor, e.Connector, e.Decision = audit.Actor{Kind: audit.Anonymous}, identity.EmailConnector, audit.Deny
	if attempts > 1 {
		e.Details = map[string]string{"attempts": strconv.Itoa(attempts)}
	}
	_, err := c.audit.AppendDone(ctx, audit.Site, e, audit.Outcome{Result: audit.Failed})
	return err
}

// succeeded does what a sign-in leaves behind. None of it is a reason to refuse the
// user, so failures are left for the next time.
func (c *Connector) succeeded(ctx context.Context, found candidate, password, from string) {
	if from != "" {
		_ = c.store.noteOrigin(ctx, found.user.ID, from)
	}
	if found.hash.cost == c.pool.cost {
		return
	}
	var h hash
	if c.pool.run(ctx, func() { h = c.pool.cost.hash(password) }) == nil {
		_ = c.store.replaceHash(ctx, found.user.ID, found.encoded, h.String())
	}
}
