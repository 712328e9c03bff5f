package web_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/identity/email"
	"github.com/ipuka/ipuka/internal/errs"
)

// record is an audit log that keeps the reasons of refusals.
type record struct {
	mu     sync.Mutex
	events []audit.Event
}

func (r *record) AppendDone(_ context.Context, _ string, e audit.Event, _ audit.Outcome) (audit.Ref, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
	return audit.Ref{}, nil
}

// refusals returns the reasons of the refusals since the last call.
func (r *record) refusals() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var reasons []string
	for _, e := range r.events {
		if e.Decision == audit.Deny {
			reasons = append(reasons, e.Rule)
		}
	}
	r.events = nil
	return reasons
}

// passwords is package email without hashing, mail and cryptography: what it knows
// can be set and read by a test.
type passwords struct {
	directory *identity.Directory

	mu       sync.Mutex
	settings email.Settings
	factors  map[string]email.Factors // by user; everybody has a password
	codes    map[string]string        // of mails, with what they are for
	calls    []string
	qr       []byte // the picture of BeginTOTP
	impostor string // login of the user whom a right password belongs to, unless it is the one asked for
}

const (
	password = "correct horse battery"
	goodTOTP = "123456"
)

func newPasswords(directory *identity.Directory) *passwords {
	return &passwords{
		directory: directory, settings: email.Settings{SignUp: true, PasswordLogin: true},
		factors: make(map[string]email.Factors), codes: make(map[string]string),
	}
}

func (p *passwords) note(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls = append(p.calls, fmt.Sprintf(format, args...))
}

func (p *passwords) Settings() email.Settings { return p.settings }

func (p *passwords) SignIn(ctx context.Context, login, given string) (identity.User, error) {
	if given == "too often" {
		return identity.User{}, errs.Errorf(errs.Exhausted, "too many attempts, wait a minute")
	}
	if given == "disabled" {
		return identity.User{}, errs.Errorf(errs.Forbidden, "this account is disabled")
	}
	u, err := p.directory.UserByLogin(ctx, cmp.Or(p.impostor, login))
	if err != nil || given != password {
		return identity.User{}, errs.Errorf(errs.Unauthenticated, "no")
	}
	return u, nil
}

func (p *passwords) Setup(ctx context.Context, code string, n identity.First, given string) (identity.User, identity.Organization, error) {
	if len(given) < 12 {
		return identity.User{}, identity.Organization{}, errs.Errorf(errs.Invalid, "the password is too short")
	}
	n.Identity = identity.Identity{Connector: "email", Subject: n.Email}
	return p.directory.CreateFirst(ctx, code, n)
}

func (p *passwords) Factors(_ context.Context, userID string) (email.Factors, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.factors[userID]
	f.Password = true
	return f, nil
}

func (p *passwords) CheckTOTP(_ context.Context, userID, code string) error {
	p.note("totp %s", code)
	switch code {
	case goodTOTP:
		return nil
	case "000000":
		return errs.Errorf(errs.Exhausted, "too many wrong codes, wait 15 minutes")
	}
	return errs.Errorf(errs.Unauthenticated, "wrong code")
}

func (p *passwords) UseRecoveryCode(_ context.Context, _, code string) error {
	if code != "good-recovery" {
		return errs.Errorf(errs.Unauthenticated, "wrong code")
	}
	return nil
}

func (p *passwords) BeginPasskeySignIn(context.Context) ([]byte, string, error) {
	return []byte(`{"publicKey":{"challenge":"Y2hhbGxlbmdl","rpId":"localhost"}}`), "sealed-challenge", nil
}

// FinishPasskeySignIn takes a login for the response of a passkey of that user.
func (p *passwords) FinishPasskeySignIn(ctx context.Context, sealed string, response []byte) (identity.User, error) {
	if sealed != "sealed-challenge" {
		return identity.User{}, errs.Errorf(errs.Unauthenticated, "no")
	}
	u, err := p.directory.UserByLogin(ctx, string(response))
	if err != nil {
		return identity.User{}, errs.Errorf(errs.Unauthenticated, "no")
	}
	return u, nil
}

func (p *passwords) use(kind, code string) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	found, ok := strings.CutPrefix(p.codes[code], kind+" ")
	if !ok {
		return "", errs.Errorf(errs.Invalid, "detail about the code")
	}
	delete(p.codes, code)
	return found, nil
}

func (p *passwords) mail(code, what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.codes[code] = what
}

func (p *passwords) SignUp(_ context.Context, s email.SignUp) error {
	if len(s.Password) < 12 {
		return errs.Errorf(errs.Invalid, "the password is too short")
	}
	p.mail("signup-"+s.Login, "signup "+s.Login+" "+s.Email)
	return nil
}

func (p *passwords) CheckSignUp(_ context.Context, code string) (email.SignUp, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	found, ok := strings.CutPrefix(p.codes[code], "signup ")
	if !ok {
		return email.SignUp{}, errs.Errorf(errs.Invalid, "detail about the code")
	}
	login, address, _ := strings.Cut(found, " ")
	return email.SignUp{Login: login, Email: address}, nil
}

func (p *passwords) ConfirmSignUp(ctx context.Context, code string) (identity.User, error) {
	found, err := p.use("signup", code)
	if err != nil {
		return identity.User{}, err
	}
	login, address, _ := strings.Cut(found, " ")
	return p.directory.CreateUser(ctx, identity.Principal{}, identity.NewUser{Login: login, Email: address, Identity: identity.Identity{Connector: "email", Subject: address}})
}

func (p *passwords) ForgotPassword(ctx context.Context, address string) error {
	u, err := p.directory.UserByEmail(ctx, address)
	if err == nil {
		p.mail("reset-"+u.Login, "reset "+u.ID)
	}
	return nil
}

func (p *passwords) CheckReset(_ context.Context, code string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !strings.HasPrefix(p.codes[code], "reset ") {
		return errs.Errorf(errs.NotFound, "detail about the code")
	}
	return nil
}

func (p *passwords) ResetPassword(ctx context.Context, code, given string) (identity.User, error) {
	if len(given) < 12 {
		return identity.User{}, errs.Errorf(errs.Invalid, "the password is too short")
	}
	id, err := p.use("reset", code)
	if err != nil {
		return identity.User{}, err
	}
	return p.directory.User(ctx, id)
}

func (p *passwords) ConfirmEmail(_ context.Context, code string) error {
	_, err := p.use("email", code)
	return err
}

func (p *passwords) ChangePassword(ctx context.Context, who identity.Principal, old, given string) error {
	switch {
	case len(given) < 12:
		return errs.Errorf(errs.Invalid, "the password is too short")
	case old != password:
		return errs.Errorf(errs.Unauthenticated, "no")
	}
	p.note("password of %s", who.Login)
	sessions, err := p.directory.Sessions(ctx, who.UserID)
	for _, s := range sessions {
		if s.ID != who.SessionID {
			err = errors.Join(err, p.directory.RevokeSession(ctx, who, s.ID))
		}
	}
	return err
}

func (p *passwords) ChangeEmail(_ context.Context, who identity.Principal, address string) error {
	if !strings.Contains(address, "@") {
		return errs.Errorf(errs.Invalid, "this is no e-mail address")
	}
	p.mail("email-"+who.Login, "email "+address)
	return nil
}

func (p *passwords) BeginTOTP(context.Context, identity.Principal) (email.TOTPEnrolment, error) {
	return email.TOTPEnrolment{Secret: "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP", URI: "otpauth://totp/x", PNG: p.qr, Sealed: "sealed-totp"}, nil
}

func (p *passwords) ConfirmTOTP(_ context.Context, who identity.Principal, sealed, code string) ([]string, error) {
	if sealed != "sealed-totp" || code != goodTOTP {
		return nil, errs.Errorf(errs.Invalid, "wrong code")
	}
	p.set(who.UserID, email.Factors{TOTP: true, RecoveryCodes: 10})
	return p.NewRecoveryCodes(nil, who) //nolint:staticcheck // the fake needs no context
}

func (p *passwords) SendInvite(context.Context, identity.Invite, string) error { return nil }

func (p *passwords) set(userID string, f email.Factors) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.factors[userID] = f
}

func (p *passwords) RemoveTOTP(_ context.Context, who identity.Principal) error {
	p.set(who.UserID, email.Factors{})
	return nil
}

func (p *passwords) NewRecoveryCodes(context.Context, identity.Principal) ([]string, error) {
	var codes []string
	for i := range 10 {
		codes = append(codes, "k7wq-9d3x-h2mf-"+strconv.Itoa(1000+i))
	}
	return codes, nil
}

func (p *passwords) BeginPasskey(context.Context, identity.Principal) ([]byte, string, error) {
	return []byte(`{"publicKey":{"challenge":"Y2hhbGxlbmdl","user":{"id":"YQ","name":"alice","displayName":"Alice"}}}`), "sealed-creation", nil
}

func (p *passwords) FinishPasskey(_ context.Context, who identity.Principal, sealed, name string, response []byte) error {
	if sealed != "sealed-creation" || string(response) != "{}" {
		return errs.Errorf(errs.Invalid, "detail about the passkey")
	}
	p.note("passkey %s of %s", name, who.Login)
	p.set(who.UserID, email.Factors{Passkeys: 1})
	return nil
}

func (p *passwords) Passkeys(_ context.Context, userID string) ([]email.Passkey, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []email.Passkey
	for i := range p.factors[userID].Passkeys {
		all = append(all, email.Passkey{ID: "key-" + strconv.Itoa(i), Name: "Chrome on Linux", Created: now.Add(-50 * time.Hour)})
	}
	return all, nil
}

func (p *passwords) RemovePasskey(_ context.Context, who identity.Principal, id string) error {
	p.note("removed passkey %s of %s", id, who.Login)
	return nil
}

// oracle is a connector whose provider says whatever the browser brings back: "who"
// is the subject, "groups" their groups.
type oracle struct {
	info identity.ConnectorInfo
	form bool   // it sends browsers by a POST
	at   string // its address, unless it is to be made up
	down error  // what Begin and Finish answer

	mu    sync.Mutex
	flows []identity.Flow // that it began
	ended []identity.Flow // that it judged
}

func (o *oracle) Info() identity.ConnectorInfo { return o.info }

func (o *oracle) Begin(_ context.Context, f identity.Flow) (identity.Redirect, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.down != nil {
		return identity.Redirect{}, o.down
	}
	o.flows = append(o.flows, f)
	at := "https://" + o.info.Name + ".example/authorize"
	if o.info.Kind == identity.KindSAML {
		at = "https://idp.example/sso"
	}
	at = cmp.Or(o.at, at)
	if o.form {
		return identity.Redirect{URL: at, Form: url.Values{"SAMLRequest": {`PHNhbWw+"><script>`}, "RelayState": {f.State}}}, nil
	}
	return identity.Redirect{URL: at + "?" + url.Values{"state": {f.State}, "redirect_uri": {f.Callback}}.Encode()}, nil
}

func (o *oracle) Finish(_ context.Context, f identity.Flow, r identity.Response) (identity.External, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = append(o.ended, f)
	if o.down != nil {
		return identity.External{}, o.down
	}
	if said := r.Values.Get("error"); said != "" {
		refusal := identity.Refuse("provider_error", identity.Principal{Connector: o.info.Name}, "provider text "+said)
		refusal.Detail = "the provider answered access_denied"
		return identity.External{}, refusal
	}
	who := r.Values.Get("who")
	if who == "" {
		return identity.External{}, identity.Refuse("no_code", identity.Principal{Connector: o.info.Name}, "no code")
	}
	return identity.External{
		Subject: "id-of-" + who, Login: who, Name: strings.ToUpper(who), Email: who + "@example.com",
		Attributes: map[string][]string{"urn:oid:mail": {who + "@example.com"}, "groups": {"<b>platform</b>"}},
		Groups:     []identity.Group{{ID: "g1", Path: "acme/platform", Parent: "g0"}},
	}, nil
}

func (o *oracle) Recheck(context.Context, string, []byte) (identity.External, error) {
	return identity.External{}, errs.Errorf(errs.Unavailable, "not asked")
}

func (o *oracle) Probe(context.Context) error { return nil }

// last returns the flow that it began last.
func (o *oracle) last(t testing.TB) identity.Flow {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.flows) == 0 {
		t.Fatalf("nobody was sent to %s", o.info.Name)
	}
	return o.flows[len(o.flows)-1]
}

func (o *oracle) finished() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.ended)
}

// oracles are the connectors of a house.
type oracles struct {
	mu   sync.Mutex
	site []*oracle
	sso  map[string]*oracle // by their names
}

func (o *oracles) Site() []identity.Connector {
	var all []identity.Connector
	for _, c := range o.site {
		all = append(all, c)
	}
	return all
}

func (o *oracles) Find(_ context.Context, name string) (identity.Connector, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, c := range o.site {
		if c.info.Name == name {
			return c, nil
		}
	}
	if c := o.sso[name]; c != nil {
		return c, nil
	}
	return nil, errs.Errorf(errs.NotFound, "no such connector")
}

// singleSignOn sets up that of an organization.
func (h *house) singleSignOn(t testing.TB, login string) *oracle {
	t.Helper()
	o, err := h.directory.Organization(t.Context(), login)
	if err != nil {
		t.Fatal(err)
	}
	c := &oracle{info: identity.ConnectorInfo{Name: identity.SAMLConnector(o.ID), Kind: identity.KindSAML, Title: "Acme login", OrganizationID: o.ID, SignUp: true}, form: true}
	h.connectors.mu.Lock()
	defer h.connectors.mu.Unlock()
	h.connectors.sso[c.info.Name] = c
	return c
}

type metadata struct{}

func (metadata) Metadata(_ context.Context, login string) ([]byte, error) {
	if login != "acme" {
		return nil, errs.Errorf(errs.NotFound, "no such organization")
	}
	return []byte(`<EntityDescriptor/>`), nil
}

var errDown = errs.Wrap(errs.Unavailable, errors.New("dial tcp 10.0.0.7:443: provider detail"), "provider detail")

// begins sends a browser to a connector of the installation.
func (b *browser) begins(o *oracle, query string) identity.Flow {
	b.t.Helper()
	res := b.get("/signin/with/" + o.info.Name + query)
	if res.StatusCode != http.StatusSeeOther || !strings.HasPrefix(res.Header.Get("Location"), "https://"+o.info.Name+".example/authorize?") {
		b.t.Fatalf("status %d to %q: %s", res.StatusCode, res.Header.Get("Location"), text(b.t, res))
	}
	return o.last(b.t)
}

func callback(o *oracle, state, who string) string {
	return "/signin/with/" + o.info.Name + "/callback?" + url.Values{"state": {state}, "who": {who}}.Encode()
}

// fromIdP is how a browser sends a form of another site.
var fromIdP = http.Header{"Origin": {"https://idp.example"}, "Sec-Fetch-Site": {"cross-site"}}

// posts is do with only the cookies that a browser sends along from another site.
func (b *browser) posts(path string, form url.Values) *http.Response {
	b.t.Helper()
	kept := make(map[string]string)
	for name, value := range b.cookies {
		if !b.crossSite[name] {
			kept[name] = value
			delete(b.cookies, name)
		}
	}
	res := b.do(http.MethodPost, path, form, fromIdP)
	for name, value := range kept {
		if _, set := b.cookies[name]; !set {
			b.cookies[name] = value
		}
	}
	return res
}

// backed has an organization take its members from its single sign-on.
func (h *house) backed(t testing.TB, login string) {
	t.Helper()
	o, err := h.directory.Organization(t.Context(), login)
	if err != nil {
		t.Fatal(err)
	}
	alice, err := h.directory.UserByLogin(t.Context(), "alice")
	if err != nil {
		t.Fatal(err)
	}
	_, err = h.directory.BackOrganization(t.Context(), alice.Principal("email"), o.ID, identity.Backing{Kind: identity.KindSAMLBacked, Connector: identity.SAMLConnector(o.ID)})
	if err != nil {
		t.Fatal(err)
	}
}

// mfa has a user asked for a second factor.
func (h *house) mfa(user identity.User) {
	h.email.set(user.ID, email.Factors{TOTP: true, RecoveryCodes: 10})
}
