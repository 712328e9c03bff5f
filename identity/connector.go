package identity

import (
	"context"
	"net/url"
	"time"
)

// Connector is a way to sign in at somebody else's: it sends the browser to a
// provider and judges what the browser brings back. It knows nobody of the
// directory; [Directory.Arrive] makes users of what it finds.
//
// A connector is safe for concurrent use. One whose provider cannot be reached is
// errs.Unavailable and harms nobody else.
type Connector interface {
	// Info says what it is. It never changes.
	Info() ConnectorInfo
	// Begin returns where the browser goes to sign in.
	Begin(ctx context.Context, f Flow) (Redirect, error)
	// Finish judges what the browser brought back from f, which it has been sent
	// with, and which is not consumed yet. The error is a *[Refusal] whose Reason and
	// Detail say why, or errs.Unavailable when the provider could not be asked.
	Finish(ctx context.Context, f Flow, r Response) (External, error)
	// Recheck asks the provider again about somebody who arrived earlier, with the
	// credential that came with them. Where asking makes the provider hand out another
	// one, that is in External's Credential, with an error too. ErrWithdrawn says that the provider does not
	// let them in any more; any other error, that it could not be asked.
	Recheck(ctx context.Context, subject string, credential []byte) (External, error)
	// Probe reports whether the provider can be reached and is set up as it should
	// be. Its error is for administrators and has no secret in it.
	Probe(ctx context.Context) error
}

// ConnectorInfo describes a connector.
type ConnectorInfo struct {
	// Name is the instance, such as "github" or "corp-okta": lower-case letters,
	// digits and "-", or for SAML [SAMLConnector]. It must never change: identities
	// hang on it.
	Name  string
	Kind  ConnectorKind
	Title string // on the button: "GitHub"
	// OrganizationID is the organization that the connector belongs to and speaks
	// for; "" for those of the installation. Only SAML has one.
	OrganizationID string
	// SignUp lets people in who have no account yet, and makes them one.
	SignUp bool
	// Issuer is what the provider is called by, for administrators to compare.
	Issuer string
}

// ConnectorKind is what a connector speaks.
type ConnectorKind string

// The kinds.
const (
	KindEmail     ConnectorKind = "email"
	KindGitHub    ConnectorKind = "github"
	KindGitLab    ConnectorKind = "gitlab"
	KindAtlassian ConnectorKind = "atlassian"
	KindBitbucket ConnectorKind = "bitbucket"
	KindOIDC      ConnectorKind = "oidc"
	KindSAML      ConnectorKind = "saml"
	KindSCIM      ConnectorKind = "scim"
)

// SAMLConnector is the name of an organization's SAML connector.
func SAMLConnector(organizationID string) string { return "saml:" + organizationID }

// Connectors are the connectors of an installation.
type Connectors interface {
	// Site returns those of the installation, in the order of their buttons.
	Site() []Connector
	// Find returns the connector with a name; errs.NotFound without one, or for an
	// organization's that is not set up.
	Find(ctx context.Context, name string) (Connector, error)
}

// Flow is one way of a browser to a provider and back. Whoever begins it keeps it for
// the very browser that goes, for [FlowLife], and nowhere else can it be read.
type Flow struct {
	State    string    // 256 random bits in base64url: OAuth's state (RFC 6749 §10.12), SAML's RelayState
	Nonce    string    // as many, for the ID token (OpenID Connect Core §3.1.2.1)
	Verifier string    // PKCE code verifier (RFC 7636 §4.1)
	Request  string    // ID of the SAML AuthnRequest, an xs:ID
	Callback string    // the URL that the provider sends the browser back to
	Fresh    bool      // the provider shall ask for the credentials again
	Expires  time.Time // end of FlowLife
}

// FlowLife is how long a browser may take.
const FlowLife = 10 * time.Minute

// Redirect sends a browser to a provider: to URL, or with Form by a POST of it to
// URL (SAML's HTTP-POST binding).
type Redirect struct {
	URL  string
	Form url.Values
}

// Response is what the browser brought back: the query of a GET, or the form of a
// POST.
type Response struct {
	Method string
	Values url.Values
}

// External is somebody as a connector has found them.
type External struct {
	Subject       string // immutable and unique at the connector; never an e-mail address or login that could be given to somebody else
	Login         string // what they are called there; a suggestion
	Name          string
	Email         string
	EmailVerified bool   // the provider vouches for Email
	AvatarURL     string // https, or ""
	// Groups are the groups that they are in at the provider; nil when it does not
	// say, which leaves everything as it is, unlike the empty list.
	Groups []Group
	// Expires ends the session earlier than [AbsoluteTimeout] when it is set.
	Expires time.Time
	// Credential is what Recheck needs, such as a refresh token; nil for none. It is
	// sealed before it is stored.
	Credential []byte
	// Once are keys that must not be seen a second time, such as an assertion's ID,
	// with the time until which they have to be remembered.
	Once []Once
	// Attributes are all that the provider said, for the page on which an
	// administrator tests a connector. They are not stored.
	Attributes map[string][]string
}

// Group is a group at a provider. Members of an organization's backing group are
// its members; groups whose Parent is the backing group are mirrored to teams.
type Group struct {
	ID     string `json:"id"`               // immutable there where the provider has such an ID; else the name
	Path   string `json:"path"`             // to be shown and typed: "acme", "acme/platform"
	Name   string `json:"name,omitempty"`   // to be shown
	Parent string `json:"parent,omitempty"` // ID of the backing group that it is in; "" for one that can back an organization
	Admin  bool   `json:"admin,omitzero"`   // whether they administer it
}

// Once is a key that may be used once until a time.
type Once struct {
	Key   string
	Until time.Time
}
