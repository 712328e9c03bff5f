package identity

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/internal/errs"
)

// SignedIn is a session that has just begun.
type SignedIn struct {
	User    User
	Session Session
	Secret  string // not to be had again
	Created bool   // the account is new
}

// Arrive signs in somebody whom a connector has found, in one transaction: the flow
// and x.Once are consumed; the user of the identity is found, or made where the
// connector may; profile, organizations and teams follow what the connector says;
// the session begins; all of it is on record. An e-mail address links to nobody.
//
// The error is a *[Refusal], which has been recorded and has changed nothing, or
// errs.Unavailable. Arrive is not to be called inside a transaction.
func (d *Directory) Arrive(ctx context.Context, c ConnectorInfo, f Flow, x External) (SignedIn, error) {
	var in SignedIn
	x, ignored, err := checkedExternal(c, x)
	if err == nil {
		err = d.insist(ctx, c, func(ctx context.Context) error {
			a := arrival{d: d, c: c, x: x, ignored: ignored}
			in, err = a.run(ctx, f)
			return err
		})
	}
	if err != nil {
		return SignedIn{}, d.Refused(ctx, c, err)
	}
	d.health.arrived(c.Name, d.wallClock())
	return in, nil
}

// errRival says that another transaction has made what this one wanted to make.
var errRival = errors.New("identity: made by somebody else at the same moment")

// insist runs fn in a transaction, and again when it has lost against a rival, whose
// work it finds then.
func (d *Directory) insist(ctx context.Context, c ConnectorInfo, fn func(context.Context) error) error {
	for range 5 {
		if err := d.db.Tx(ctx, fn); !errors.Is(err, errRival) {
			return err
		}
	}
	return refuseArrival(IdentityTwice, c, "the same person keeps arriving at the same moment")
}

// arrival is somebody on the way in.
type arrival struct {
	d       *Directory
	c       ConnectorInfo
	x       External
	ignored int // groups that were too many

	now        time.Time
	user       User
	generation int64
	created    bool
	home       home // of the connector, when it has one
	trail      trail
}

func (a *arrival) identity() Identity { return Identity{Connector: a.c.Name, Subject: a.x.Subject} }

func (a *arrival) answer() answer {
	return answer{login: a.x.Login, email: a.x.Email, groups: a.x.Groups, credential: a.d.seal(a.identity(), a.x.Credential)}
}

func (a *arrival) run(ctx context.Context, f Flow) (SignedIn, error) {
	if err := a.begin(ctx, f); err != nil {
		return SignedIn{}, err
	}
	if err := a.findHome(ctx, false); err != nil {
		return SignedIn{}, err
	}
	known, err := a.d.store.arrived(ctx, a.identity(), a.answer(), a.now)
	if err != nil {
		return SignedIn{}, err
	}
	if known {
		err = a.comeBack(ctx)
	} else {
		err = a.create(ctx)
	}
	if err != nil {
		return SignedIn{}, err
	}
	if err := a.settle(ctx); err != nil {
		return SignedIn{}, err
	}
	secret, session, err := a.d.beginSession(ctx, a.user, a.generation, a.c.Name, a.now, a.x.Expires)
	if err != nil {
		return SignedIn{}, err
	}
	p := a.user.Principal(a.c.Name)
	p.SessionID = session.ID
	e := p.Event(loginEvent(a.user))
	e.Details = facts("groups_ignored", count(a.ignored))
	a.trail.add(audit.Site, e)
	if a.home.ID != "" {
		a.trail.add(a.home.ID, e)
	}
	return SignedIn{User: a.user, Session: session, Secret: secret, Created: a.created}, a.d.finish(ctx, a.trail)
}

// begin uses up what brought them.
func (a *arrival) begin(ctx context.Context, f Flow) error {
	var err error
	if a.now, err = a.d.store.clock(ctx); err != nil {
		return err
	}
	if !a.x.Expires.IsZero() && !a.now.Before(a.x.Expires) {
		return refuseArrival(ExternalExpired, a.c, "the session at the provider is over")
	}
	return a.d.consumeArrival(ctx, a.c, f, a.x, a.now)
}

// findHome looks again at the organization that the connector speaks for: it may have
// been deleted, or have changed its ways, while the browser was at the provider. Who
// links an identity may do so before the organization relies on the connector.
func (a *arrival) findHome(ctx context.Context, linking bool) error {
	if a.c.OrganizationID == "" {
		return nil
	}
	found, alive, err := a.d.store.home(ctx, a.c.OrganizationID)
	switch {
	case err != nil:
		return err
	case !alive:
		return refuseArrival(OrganizationGone, a.c, "the organization has been deleted")
	case !linking && !found.backed(a.c) && !found.SSO:
		return refuseArrival(ConnectorOff, a.c, "the organization neither takes its members from the identity provider nor requires single sign-on")
	}
	a.home = found
	return nil
}

// create makes the account of somebody new.
func (a *arrival) create(ctx context.Context) error {
	if !a.c.SignUp {
		return refuseArrival(SignUpOff, a.c, "there is no account for this person, and the connector makes none")
	}
	if a.c.OrganizationID != "" && !a.home.backed(a.c) {
		return refuseArrival(SignUpOff, a.c, "there is no account for this person, and the organization does not take its members from the identity provider")
	}
	a.user = User{
		ID: uuid.NewString(), Name: a.x.Name, AvatarURL: a.x.AvatarURL, Created: a.now, ManagedBy: a.c.OrganizationID,
	}
	if address, err := CanonicalEmail(a.x.Email); err == nil {
		a.user.Email, a.user.EmailVerified = address, a.x.EmailVerified
	}
	var err error
	if a.user.Login, err = a.d.store.takeName(ctx, nameChoices(suggestLogin(a.x.Login, a.x.Email), maxLogin), a.user.ID); err != nil {
		return err
	}
	if a.user.Name == "" {
		a.user.Name = a.user.Login
	}
	if err := a.d.store.insertUserRow(ctx, a.user); err != nil {
		return err
	}
	if added, err := a.d.store.addIdentity(ctx, a.user.ID, a.identity(), a.answer(), a.now); err != nil || !added {
		return cond(err, errRival)
	}
	a.generation, a.created = 1, true
	e := a.user.Principal(a.c.Name).Event(audit.Event{
		Name: "user-created", Object: "user:" + a.user.Login, Description: "Created user " + a.user.Login,
		After: facts("id", a.user.ID, "login", a.user.Login, "email", a.user.Email, "connector", a.c.Name, "managedBy", a.user.ManagedBy),
	})
	a.trail.add(audit.Site, e)
	if a.home.ID != "" {
		a.trail.add(a.home.ID, e)
	}
	return nil
}

// comeBack finds the account of somebody who has one.
func (a *arrival) comeBack(ctx context.Context) error {
	user, generation, elsewhere, err := a.d.store.userWithIdentity(ctx, a.identity())
	if err != nil {
		return err
	}
	a.user, a.generation = user, generation
	switch {
	case user.ManagedBy != "" && user.ManagedBy != a.c.OrganizationID:
		return a.refuse(ManagedElsewhere, "the account belongs to the identity provider of an organization")
	case user.Disabled.IsZero():
	case user.DisabledBy != byConnector(a.c.Name):
		return a.refuse(UserDisabled, "the account is disabled")
	default:
		if err := a.d.store.setDisabled(ctx, user.ID, time.Time{}, ""); err != nil {
			return err
		}
		a.user.Disabled, a.user.DisabledBy = time.Time{}, ""
		a.trail.touch("")
		a.trail.add(audit.Site, byItself(a.c, audit.Event{
			Name: "user-enabled", Object: "user:" + user.Login, Description: "Enabled user " + user.Login + ", whom the provider lets in again",
		}))
	}
	// An organization's provider speaks for the accounts that it manages only.
	if elsewhere || user.ManagedBy != a.c.OrganizationID {
		return nil
	}
	a.user, err = a.d.followProfile(ctx, &a.trail, a.c, a.user, a.x)
	return err
}

// refuse refuses somebody who has an account.
func (a *arrival) refuse(reason, detail string) *Refusal {
	r := Refuse(reason, a.user.Principal(a.c.Name), signInFailed)
	r.Detail = detail
	return r
}

// settle puts them where the provider says they belong.
func (a *arrival) settle(ctx context.Context) error {
	err := a.d.follow(ctx, &a.trail, following{c: a.c, user: a.user, subject: a.x.Subject, groups: a.x.Groups, now: a.now})
	if err != nil || a.home.ID == "" {
		return err
	}
	until := a.now.Add(SSOLife)
	if !a.x.Expires.IsZero() && a.x.Expires.Before(until) {
		until = a.x.Expires
	}
	return a.d.store.setSSO(ctx, a.home.ID, a.user.ID, until)
}

// followProfile changes what the provider says otherwise, of an account that has no
// other provider. What the provider does not say stays.
func (d *Directory) followProfile(ctx context.Context, t *trail, c ConnectorInfo, user User, x External) (User, error) {
	before := user
	if x.Name != "" {
		user.Name = x.Name
	}
	if x.AvatarURL != "" {
		user.AvatarURL = x.AvatarURL
	}
	if address, err := CanonicalEmail(x.Email); err == nil {
		user.Email, user.EmailVerified = address, x.EmailVerified
	}
	if user == before {
		return user, nil
	}
	t.add(audit.Site, byItself(c, updatedEvent(before, user)))
	return user, d.store.saveUser(ctx, user)
}

// byItself makes e what Ipuka does because a connector says so.
func byItself(c ConnectorInfo, e audit.Event) audit.Event {
	return Principal{Connector: c.Name}.Did(e)
}

// byConnector is who has disabled a user whom a connector does not let in any more.
func byConnector(name string) string { return "connector:" + name }

func (d *Directory) seal(i Identity, credential []byte) []byte {
	if d.box == nil || len(credential) == 0 {
		return nil
	}
	return d.box.Seal(credential, sealContext(i))
}

func sealContext(i Identity) string { return "identity:" + i.Connector + ":" + i.Subject }

// maxSubject bounds what a connector calls somebody, and a group, in bytes.
const maxSubject = 512

// checkedExternal returns x as it can be stored and shown: what names somebody is
// refused when it is not fit, what describes them is cleaned. It returns how many
// groups were too many as well.
func checkedExternal(c ConnectorInfo, x External) (External, int, error) {
	if !storable(x.Subject) {
		return External{}, 0, refuseArrival(ExternalInvalid, c, "the provider's name for the person is empty, too long or no text")
	}
	x.Login, x.Name, x.Email = clean(x.Login, maxName), clean(x.Name, maxName), clean(x.Email, maxEmail)
	if !validAvatar(x.AvatarURL) {
		x.AvatarURL = ""
	}
	var ignored int
	x.Groups, ignored = lookedAt(x.Groups)
	return x, ignored, nil
}

// storable reports whether text can name something for good.
func storable(text string) bool {
	return text != "" && len(text) <= maxSubject && utf8.ValidString(text) && !strings.ContainsFunc(text, unicode.IsControl)
}

func validAvatar(address string) bool {
	return strings.HasPrefix(address, "https://") && len(address) <= 2048 && utf8.ValidString(address) && !strings.ContainsFunc(address, unicode.IsControl)
}

func count(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

// cond returns err, or otherwise when there is none.
func cond(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}

func errNamesTaken() error {
	return errs.Errorf(errs.Conflict, "all names like that are taken, choose another one")
}

// SSOState says whether a member of an organization with single sign-on has signed in
// through it lately.
type SSOState int

// The states.
const (
	SSOAlive   SSOState = iota
	SSOExpired          // signed in through it once, but too long ago
	SSONever            // never signed in through it
)

// SSOLife is how long a sign-in through an organization's single sign-on counts at
// most; the provider may say SessionNotOnOrAfter to make it shorter.
const SSOLife = 12 * time.Hour

// SSO returns the state for a member; the break-glass administrator is always SSOAlive.
// It is one indexed read. An organization that is not there is errs.NotFound.
func (d *Directory) SSO(ctx context.Context, organizationID, userID string) (SSOState, error) {
	breakGlass, expires, now, err := d.store.sso(ctx, organizationID, userID)
	switch {
	case err != nil:
		return SSONever, err
	case userID != "" && breakGlass == userID, now < expires:
		return SSOAlive, nil
	case expires == 0:
		return SSONever, nil
	}
	return SSOExpired, nil
}
