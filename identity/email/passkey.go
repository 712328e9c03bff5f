package email

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json" // what the library's types are made for
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/database"
	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/httpapi"
)

// Passkey is a discoverable credential of WebAuthn Level 2. Signing in with it takes
// the authenticator and its owner's PIN or finger, and so counts as two factors.
type Passkey struct {
	ID, Name string
	Created  time.Time
	Used     time.Time // zero: never
}

// ceremonyLife is how long a browser may take for WebAuthn's part.
const ceremonyLife = 5 * time.Minute

// maxPasskeys is how many passkeys a user may have.
const maxPasskeys = 20

// maxPasskeyResponse bounds what a browser answers.
const maxPasskeyResponse = 64 << 10

// The kinds of ceremony.
const (
	kindRegistration = "passkey-registration"
	kindAssertion    = "passkey-assertion"
)

// ceremony is what a browser keeps, sealed, while the authenticator works.
type ceremony struct {
	Kind    string `json:"kind"`
	UserID  string `json:"user,omitempty"`
	Session []byte `json:"session"` // the library's, as it is
	Expires int64  `json:"expires"`
}

// newWebAuthn returns nil where there can be no passkeys: without a console, or where
// that has no name but an address.
func newWebAuthn(console, site string) (*webauthn.WebAuthn, error) {
	if console == "" {
		return nil, nil
	}
	u, err := url.Parse(console)
	if err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, errors.New("email: the address of the console must look like https://ipuka.example.com")
	}
	if fit := protocol.ValidateRPID(u.Hostname()) == nil; !fit {
		return nil, nil
	}
	required := true
	timeout := webauthn.TimeoutConfig{Enforce: true, Timeout: ceremonyLife, TimeoutUVD: ceremonyLife}
	return webauthn.New(&webauthn.Config{
		RPID: u.Hostname(), RPDisplayName: site, RPOrigins: []string{u.Scheme + "://" + u.Host},
		AttestationPreference: protocol.PreferNoAttestation,
		AuthenticatorSelection: protocol.AuthenticatorSelection{
			ResidentKey: protocol.ResidentKeyRequirementRequired, RequireResidentKey: &required, UserVerification: protocol.VerificationRequired,
		},
		Timeouts: webauthn.TimeoutsConfig{Login: timeout, Registration: timeout},
	})
}

// owner is a user as the library wants to see one.
type owner struct {
	user   identity.User
	handle []byte
	keys   []webauthn.Credential
}

func (o owner) WebAuthnID() []byte                         { return o.handle }
func (o owner) WebAuthnName() string                       { return o.user.Login }
func (o owner) WebAuthnDisplayName() string                { return o.user.Login }
func (o owner) WebAuthnCredentials() []webauthn.Credential { return o.keys }

func passkeyContext(id string) string { return "passkey:" + id }

// owner returns a user with the user's passkeys, opened.
func (c *Connector) owner(user identity.User, handle []byte, rows []passkeyRow) (owner, error) {
	o := owner{user: user, handle: handle}
	for _, row := range rows {
		plain, err := c.box.Open(row.Credential, passkeyContext(row.ID))
		if err != nil {
			return o, errs.Wrap(errs.Internal, err, "a passkey cannot be opened")
		}
		var key webauthn.Credential
		if err := json.Unmarshal(plain, &key); err != nil {
			return o, err
		}
		key.Authenticator.SignCount = uint32(row.SignCount)
		o.keys = append(o.keys, key)
	}
	return o, nil
}

// passkeyRow returns what is stored of a credential.
func (c *Connector) passkeyRow(userID string, key *webauthn.Credential) (passkeyRow, error) {
	hash := sha256.Sum256(key.ID)
	row := passkeyRow{ID: base64.RawURLEncoding.EncodeToString(hash[:]), UserID: userID, SignCount: int64(key.Authenticator.SignCount)}
	plain, err := json.Marshal(key)
	if err != nil {
		return row, err
	}
	row.Credential = c.box.Seal(plain, passkeyContext(row.ID))
	return row, nil
}

func (c *Connector) passkeysOff() error {
	if c.webauthn == nil || c.box == nil {
		return errs.Errorf(errs.NotFound, "there are no passkeys here: they need a console with a host name")
	}
	return nil
}

// sealCeremony returns what a browser has to hand back, and what it asks the
// authenticator.
func (c *Connector) sealCeremony(ctx context.Context, kind, userID string, options any, session *webauthn.SessionData) ([]byte, string, error) {
	now, err := c.clock(ctx)
	if err != nil {
		return nil, "", err
	}
	text, err := json.Marshal(options)
	if err != nil {
		return nil, "", err
	}
	data, err := json.Marshal(session)
	if err != nil {
		return nil, "", err
	}
	sealedText, err := c.box.SealText(ceremony{Kind: kind, UserID: userID, Session: data, Expires: database.Micros(now.Add(ceremonyLife))})
	return text, sealedText, err
}

// openCeremony returns what was sealed for a purpose, while it is good.
func (c *Connector) openCeremony(ctx context.Context, kind, userID, sealedText string) (session webauthn.SessionData, until time.Time, ok bool, err error) {
	now, err := c.clock(ctx)
	if err != nil {
		return session, now, false, err
	}
	var held ceremony
	if opened := c.box.OpenText(sealedText, &held) == nil; !opened || held.Kind != kind || held.UserID != userID || database.Micros(now) >= held.Expires {
		return session, now, false, nil
	}
	err = json.Unmarshal(held.Session, &session)
	return session, database.Time(held.Expires), err == nil, err
}

// onceKey is the key that a ceremony is consumed by.
func onceKey(session webauthn.SessionData) string {
	hash := sha256.Sum256([]byte(session.Challenge))
	return "passkey:" + base64.RawURLEncoding.EncodeToString(hash[:])
}

// BeginPasskey returns the options of navigator.credentials.create, binary values in
// base64url, for a new passkey of p's user, and what to hand to FinishPasskey. The
// session must have begun lately.
func (c *Connector) BeginPasskey(ctx context.Context, p identity.Principal) ([]byte, string, error) {
	user, err := c.fresh(ctx, p)
	if err != nil {
		return nil, "", err
	}
	if err := c.passkeysOff(); err != nil {
		return nil, "", err
	}
	if !c.settings.PasswordLogin {
		return nil, "", errs.Errorf(errs.Forbidden, "nobody signs in by a passkey here")
	}
	o, err := c.ownerOf(ctx, user)
	if err != nil {
		return nil, "", err
	}
	options, session, err := c.webauthn.BeginRegistration(o, webauthn.WithExclusions(webauthn.Credentials(o.keys).CredentialDescriptors()))
	if err != nil {
		return nil, "", err
	}
	return c.sealCeremony(ctx, kindRegistration, user.ID, options, session)
}

func (c *Connector) ownerOf(ctx context.Context, user identity.User) (owner, error) {
	raw := make([]byte, 64)
	_, _ = rand.Read(raw) // never fails: crypto/rand ends the program first
	handle, err := c.store.handle(ctx, user.ID, raw)
	if err != nil {
		return owner{}, err
	}
	rows, err := c.store.passkeys(ctx, user.ID)
	if err != nil {
		return owner{}, err
	}
	return c.owner(user, handle, rows)
}

// FinishPasskey adds the passkey that a browser has made. The session must have begun
// lately. What does not hold is errs.Invalid.
func (c *Connector) FinishPasskey(ctx context.Context, p identity.Principal, sealedText, name string, response []byte) error {
	user, err := c.fresh(ctx, p)
	if err != nil {
		return err
	}
	if err := c.passkeysOff(); err != nil {
		return err
	}
	session, until, ok, err := c.openCeremony(ctx, kindRegistration, user.ID, sealedText)
	if err != nil {
		return err
	}
	if !ok {
		return c.refusePasskey(ctx, user, PasskeyExpired)
	}
	o, err := c.ownerOf(ctx, user)
	if err != nil {
		return err
	}
	if len(response) > maxPasskeyResponse {
		return c.refusePasskey(ctx, user, PasskeyRefused)
	}
	parsed, err := protocol.ParseCredentialCreationResponseBytes(response)
	if err != nil {
		return c.refusePasskey(ctx, user, PasskeyRefused)
	}
	key, err := c.webauthn.CreateCredential(o, session, parsed)
	if err != nil {
		return c.refusePasskey(ctx, user, PasskeyRefused)
	}
	if len(o.keys) >= maxPasskeys {
		return errs.Errorf(errs.Conflict, "the account has %d passkeys already, remove one first", maxPasskeys)
	}
	err = c.db.Tx(ctx, func(ctx context.Context) error { return c.addPasskey(ctx, p, user, key, name, onceKey(session), until) })
	if errors.Is(err, errReplayed) {
		return c.refusePasskey(ctx, user, PasskeyReplayed)
	}
	return err
}

// errReplayed ends a transaction in which a ceremony turned out to be used up.
var errReplayed = errors.New("the ceremony has been used")

// consume uses a ceremony up within the transaction of ctx.
func (c *Connector) consume(ctx context.Context, once string, until time.Time) error {
	err := c.directory.Consume(ctx, once, until)
	if errs.KindOf(err) == errs.Conflict {
		return errReplayed
	}
	return err
}

func (c *Connector) addPasskey(ctx context.Context, p identity.Principal, user identity.User, key *webauthn.Credential, name, once string, until time.Time) error {
	if err := c.consume(ctx, once, until); err != nil {
		return err
	}
	now, err := c.clock(ctx)
	if err != nil {
		return err
	}
	row, err := c.passkeyRow(user.ID, key)
	if err != nil {
		return err
	}
	row.Created = database.Micros(now)
	if row.Name = strings.TrimSpace(httpapi.Clean(name, 100)); row.Name == "" {
		row.Name = "Passkey"
	}
	added, err := c.store.addPasskey(ctx, row)
	if err != nil {
		return err
	}
	if !added {
		return errs.Errorf(errs.Conflict, "this passkey belongs to an account already")
	}
	if err := c.did(ctx, p, "user-passkey-added", user, "Added a passkey to "+user.Login); err != nil {
		return err
	}
	return c.notify(ctx, user, user.Email, "A passkey was added", "From now on somebody can sign in to your account with a new passkey.")
}

// refusePasskey puts on record that a passkey of somebody signed in was not added.
func (c *Connector) refusePasskey(ctx context.Context, user identity.User, reason string) error {
	e := audit.Event{Name: "user-passkey-refused", Object: "user:" + user.Login, Description: "Refused to add a passkey to " + user.Login, Rule: reason}
	if err := c.deny(ctx, e, 1); err != nil {
		return err
	}
	return errs.Errorf(errs.Invalid, "the passkey was not accepted, or it took too long: begin again")
}

// Passkeys returns the passkeys of a user, the oldest first.
func (c *Connector) Passkeys(ctx context.Context, userID string) ([]Passkey, error) {
	rows, err := c.store.passkeys(ctx, userID)
	out := make([]Passkey, len(rows))
	for i, row := range rows {
		out[i] = Passkey{ID: row.ID, Name: row.Name, Created: database.Time(row.Created), Used: database.Time(row.Used)}
	}
	return out, err
}

// RemovePasskey takes a passkey from p's user; errs.NotFound for one that the user does
// not have. The session must have begun lately.
func (c *Connector) RemovePasskey(ctx context.Context, p identity.Principal, id string) error {
	user, err := c.fresh(ctx, p)
	if err != nil {
		return err
	}
	return c.db.Tx(ctx, func(ctx context.Context) error {
		removed, err := c.store.dropPasskey(ctx, user.ID, id)
		if err != nil {
			return err
		}
		if !removed {
			return errs.Errorf(errs.NotFound, "there is no such passkey")
		}
		if err := c.did(ctx, p, "user-passkey-removed", user, "Removed a passkey of "+user.Login); err != nil {
			return err
		}
		return c.notify(ctx, user, user.Email, "A passkey was removed", "Nobody can sign in to your account with that passkey any more.")
	})
}

// BeginPasskeySignIn returns the options of navigator.credentials.get, binary values
// in base64url, and what to hand to FinishPasskeySignIn. It is for nobody in particular:
// the authenticator says whose passkey it has.
func (c *Connector) BeginPasskeySignIn(ctx context.Context) ([]byte, string, error) {
	if err := c.passkeysOff(); err != nil {
		return nil, "", err
	}
	if !c.settings.PasswordLogin {
		return nil, "", errs.Errorf(errs.NotFound, "nobody signs in by a passkey here")
	}
	options, session, err := c.webauthn.BeginDiscoverableLogin(webauthn.WithUserVerification(protocol.VerificationRequired))
	if err != nil {
		return nil, "", err
	}
	return c.sealCeremony(ctx, kindAssertion, "", options, session)
}

// FinishPasskeySignIn returns the user whose passkey has answered, with the user
// verified by the authenticator. No further factor is to be asked for. All failures are
// one *[identity.Refusal] with one text. It begins no session.
func (c *Connector) FinishPasskeySignIn(ctx context.Context, sealedText string, response []byte) (identity.User, error) {
	if err := c.passkeysOff(); err != nil {
		return identity.User{}, err
	}
	if !c.settings.PasswordLogin {
		return identity.User{}, c.closed(ctx, passkeyText)
	}
	session, until, ok, err := c.openCeremony(ctx, kindAssertion, "", sealedText)
	if err != nil {
		return identity.User{}, err
	}
	if !ok {
		return identity.User{}, c.refuseAssertion(ctx, identity.User{}, PasskeyExpired)
	}
	a, reason, err := c.assert(ctx, session, response)
	if err != nil {
		return identity.User{}, err
	}
	if reason != "" {
		return identity.User{}, c.refuseAssertion(ctx, a.user, reason)
	}
	err = c.db.Tx(ctx, func(ctx context.Context) error {
		if err := c.consume(ctx, onceKey(session), until); err != nil {
			return err
		}
		used, err := c.store.usePasskey(ctx, a.before, a.after)
		if err == nil && !used {
			return errReplayed
		}
		return err
	})
	if errors.Is(err, errReplayed) {
		return identity.User{}, c.refuseAssertion(ctx, a.user, PasskeyReplayed)
	}
	if err != nil {
		return identity.User{}, err
	}
	return a.user, nil
}

// assertion is an answer of an authenticator that holds.
type assertion struct {
	user          identity.User
	before, after passkeyRow
}

// assert judges an answer, and returns the reason when it does not hold. The user in
// it is set once the signature is known to be right.
func (c *Connector) assert(ctx context.Context, session webauthn.SessionData, response []byte) (a assertion, reason string, err error) {
	if len(response) > maxPasskeyResponse {
		return a, PasskeyRefused, nil
	}
	parsed, err := protocol.ParseCredentialRequestResponseBytes(response)
	if err != nil {
		return a, PasskeyRefused, nil //nolint:nilerr // the reason is all that is said
	}
	var rows []passkeyRow
	var failed error // of ours, which the library would make its own
	reason = PasskeyRefused
	found, key, err := c.webauthn.ValidatePasskeyLogin(func(_, handle []byte) (webauthn.User, error) {
		o, err := c.ownerByHandle(ctx, handle, &rows)
		if errs.KindOf(err) == errs.NotFound {
			reason = PasskeyUnknown
		} else {
			failed = err
		}
		return o, err
	}, session, parsed)
	if failed != nil {
		return a, "", failed
	}
	if err != nil {
		return a, reason, nil //nolint:nilerr // the reason is all that is said
	}
	a.user = found.(owner).user
	now, err := c.clock(ctx)
	if err != nil {
		return a, "", err
	}
	if a.after, err = c.passkeyRow(a.user.ID, key); err != nil {
		return a, "", err
	}
	a.after.Used = database.Micros(now)
	a.before = rows[slices.IndexFunc(rows, func(row passkeyRow) bool { return row.ID == a.after.ID })]
	switch {
	case key.Authenticator.CloneWarning:
		return a, PasskeyCloned, nil
	case !a.user.Disabled.IsZero():
		return a, AccountDisabled, nil
	case a.user.ManagedBy != "":
		return a, "managed_account", nil
	}
	return a, "", nil
}

func (c *Connector) ownerByHandle(ctx context.Context, handle []byte, rows *[]passkeyRow) (owner, error) {
	userID, err := c.store.handleOwner(ctx, handle)
	if err != nil {
		return owner{}, err
	}
	user, err := c.directory.User(ctx, userID)
	if err != nil {
		return owner{}, err
	}
	if *rows, err = c.store.passkeys(ctx, userID); err != nil {
		return owner{}, err
	}
	return c.owner(user, handle, *rows)
}

const passkeyText = "the passkey was not accepted"

// refuseAssertion puts a failed sign-in on record and returns its error. Those of
// nobody known are recorded at most once a minute.
func (c *Connector) refuseAssertion(ctx context.Context, user identity.User, reason string) error {
	attempts := 1
	if user.ID == "" {
		attempts = c.throttle.refuse(&c.throttle.passkeys)
	}
	if err := c.refused(ctx, reason, user, attempts); err != nil {
		return err
	}
	return identity.Refuse(reason, user.Principal(identity.EmailConnector), passkeyText)
}
