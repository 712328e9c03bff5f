// Package saml lets the members of an organization sign in at the organization's own
// SAML 2.0 identity provider.
//
// Every organization has a service provider of its own, with an entity ID, keys and a
// connector: what one organization's identity provider says is never heard by another.
// The addresses contain the organization's key, which stays when it is renamed.
//
// A response is believed in when one signature at least covers the assertion, made
// with a key of the descriptor that an administrator has given us, and everything that
// SAML asks for is there: verify.go has the order, structure.go what a signed document
// looks like, assertion.go what it must say. What is only odd is refused too.
//
// Requests are signed. Encrypted assertions and sign-ins that begin at the identity
// provider are off unless an organization turns them on. There is no single logout:
// sessions end with SessionNotOnOrAfter.
package saml

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"embed"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/database"
	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/sealed"
)

//go:embed migrations/*.sql
var migrationFS embed.FS

// Migrations are the tables of this package. They come after [identity.Migrations].
var Migrations = database.Migrations{Name: "saml", FS: migrationFS}

// Directory is the part of *identity.Directory that this package needs.
type Directory interface {
	Organization(ctx context.Context, login string) (identity.Organization, error)
	OrganizationByID(ctx context.Context, id string) (identity.Organization, error)
	BackOrganization(ctx context.Context, actor identity.Principal, organizationID string, b identity.Backing) (identity.Organization, error)
}

// Config is what a Provider needs.
type Config struct {
	DB        *database.DB
	Directory Directory
	Audit     identity.Recorder
	// Box seals the private keys.
	Box *sealed.Box
	// ConsoleURL is where browsers find us, such as https://ipuka.example.com.
	ConsoleURL string
	// Client fetches descriptors. Whose URL it is given an administrator of any
	// organization decides, so it must keep to public addresses.
	Client *http.Client
	// Now is the clock that responses are judged by; nil is the database's own.
	Now func() time.Time
}

// Provider is the service provider of every organization. It is safe for concurrent use.
type Provider struct {
	db        *database.DB
	store     store
	directory Directory
	audit     identity.Recorder
	box       *sealed.Box
	console   *url.URL
	client    *http.Client
	now       func() time.Time
	generate  func() (key, error) // makes a key, in a second or so
}

// Open returns the provider in a migrated database. Somebody should call
// [Provider.Run], or descriptors of an address are never fetched again.
func Open(config Config) (*Provider, error) {
	if config.DB == nil || config.Directory == nil || config.Audit == nil || config.Box == nil || config.Client == nil {
		return nil, errors.New("saml: a database, a directory, an audit log, a box and a client are needed")
	}
	console, err := url.Parse(strings.TrimSuffix(config.ConsoleURL, "/"))
	if err != nil || console.Host == "" || console.Scheme != "https" && console.Scheme != "http" {
		return nil, errors.New("saml: the address of the console is needed, such as https://ipuka.example.com")
	}
	return &Provider{
		db: config.DB, store: store{db: config.DB}, directory: config.Directory, audit: config.Audit,
		box: config.Box, console: console, client: config.Client, now: config.Now,
		generate: func() (key, error) { return rsa.GenerateKey(rand.Reader, keyBits) },
	}, nil
}

// clock returns the time that responses are judged by.
func (p *Provider) clock(ctx context.Context) (time.Time, error) {
	if p.now != nil {
		return p.now().UTC().Truncate(time.Microsecond), nil
	}
	return p.db.Now(ctx)
}

// addresses of an organization's service provider.
type addresses struct{ entityID, acs string }

func (p *Provider) addresses(o identity.Organization) addresses {
	base := p.console.String() + "/login/" + url.PathEscape(o.Key) + "/sso/saml/"
	return addresses{entityID: base + "metadata", acs: base + "acs"}
}

// Connector returns the connector of an organization; errs.NotFound when it has no
// identity provider. It has the settings of this moment, and is for one use.
func (p *Provider) Connector(ctx context.Context, organizationID string) (identity.Connector, error) {
	row, err := p.store.provider(ctx, organizationID)
	if err != nil {
		return nil, err
	}
	if row.Descriptor == "" {
		return nil, errNotSetUp()
	}
	o, err := p.directory.OrganizationByID(ctx, organizationID)
	if err != nil {
		return nil, err
	}
	// What was accepted once is read again as it is: time decides when it is used.
	d, err := parseDescriptor([]byte(row.Descriptor))
	if err != nil {
		return nil, errs.Wrap(errs.Internal, err, "")
	}
	return &connector{provider: p, row: row, addresses: p.addresses(o), descriptor: d}, nil
}

func errNotSetUp() error {
	return errs.Errorf(errs.NotFound, "the organization has no SAML identity provider")
}

// connector is an organization's way to sign in.
type connector struct {
	provider *Provider
	row      providerRow
	addresses
	descriptor Descriptor
}

// Info says what it is.
func (c *connector) Info() identity.ConnectorInfo {
	return identity.ConnectorInfo{
		Name: identity.SAMLConnector(c.row.OrganizationID), Kind: identity.KindSAML, Title: "Single sign-on",
		OrganizationID: c.row.OrganizationID, SignUp: c.row.SignUp, Issuer: c.descriptor.EntityID,
	}
}

// Finish judges the response of the identity provider.
func (c *connector) Finish(ctx context.Context, f identity.Flow, r identity.Response) (identity.External, error) {
	now, err := c.provider.clock(ctx)
	if err != nil {
		return identity.External{}, err
	}
	v := c.verifier()
	if r.Method != http.MethodPost {
		return identity.External{}, v.refusal(refuse("saml_structure", "the response did not come by the HTTP-POST binding"))
	}
	x, refusal := v.verify(r.Values, f, now)
	if refusal != nil {
		return identity.External{}, refusal
	}
	return x, nil
}

func (c *connector) verifier() verifier {
	v := verifier{
		connector: identity.SAMLConnector(c.row.OrganizationID), entityID: c.entityID, acs: c.acs,
		issuer: c.descriptor.EntityID, validUntil: c.descriptor.ValidUntil, certificates: c.descriptor.certificates,
		nameIDFormat: c.row.NameIDFormat, attributes: c.row.attributes(), domains: c.row.domains(), idpInitiated: c.row.IDPInitiated,
	}
	if c.row.Encrypted {
		v.decryption = func() (key, error) { return c.provider.unseal(c.row, encryption) }
	}
	return v
}

// Recheck is always an error: SAML has no way to ask about somebody later.
func (c *connector) Recheck(context.Context, string, []byte) (identity.External, error) {
	return identity.External{}, errs.Errorf(errs.Unprocessable, "a SAML identity provider cannot be asked about somebody")
}

// Probe returns what an administrator has to look after, nil for nothing. It reaches
// for nobody: only browsers talk to the identity provider.
func (c *connector) Probe(ctx context.Context) error {
	now, err := c.provider.clock(ctx)
	if err != nil {
		return err
	}
	if w := c.row.warnings(c.descriptor, now); len(w) > 0 {
		return errs.Errorf(errs.Unprocessable, "%s", strings.Join(w, "; "))
	}
	return nil
}
