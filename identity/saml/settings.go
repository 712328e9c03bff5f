package saml

import (
	"context"
	"crypto/x509"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/database"
	"github.com/ipuka/ipuka/internal/errs"
)

// Settings are an organization's service provider and the identity provider that it
// believes.
type Settings struct {
	// Ours, to be entered at the identity provider.
	EntityID, ACS, MetadataURL string
	Prepared                   bool // our keys are made, so that MetadataURL answers

	// The identity provider's; empty before there is one.
	Descriptor    string // XML
	DescriptorURL string // that Descriptor is fetched from every day; "" for one that was pasted
	IdPEntityID   string
	SSOURL        string
	Binding       string
	Certificates  []Certificate
	ValidUntil    time.Time // zero: for ever

	NameIDFormat      string // that is asked for: [Persistent], [EmailAddress], or "" for whichever comes
	Attributes        AttributeMap
	AllowIdPInitiated bool
	AllowEncrypted    bool
	SignUp            bool // people who have no account yet get one
	// Domains are those whose email addresses the identity provider vouches for.
	Domains []string

	Warnings []string // what an administrator should look after
}

// Configured reports whether people can sign in.
func (s Settings) Configured() bool { return s.Descriptor != "" }

// Change changes what is not nil. Descriptor and DescriptorURL exclude each other: with
// an address, the descriptor is fetched from there, now and every day.
type Change struct {
	Descriptor, DescriptorURL                 *string
	NameIDFormat                              *string
	Attributes                                *AttributeMap
	AllowIdPInitiated, AllowEncrypted, SignUp *bool
	Domains                                   *[]string
}

// Settings returns the settings of an organization. One without an identity provider
// has only our side of them.
func (p *Provider) Settings(ctx context.Context, organizationID string) (Settings, error) {
	o, err := p.directory.OrganizationByID(ctx, organizationID)
	if err != nil {
		return Settings{}, err
	}
	row, err := p.store.provider(ctx, organizationID)
	if errs.KindOf(err) == errs.NotFound {
		row, err = providerRow{SignUp: true}, nil
	}
	if err != nil {
		return Settings{}, err
	}
	now, err := p.clock(ctx)
	if err != nil {
		return Settings{}, err
	}
	return p.settings(o, row, now)
}

func (p *Provider) settings(o identity.Organization, row providerRow, now time.Time) (Settings, error) {
	a := p.addresses(o)
	s := Settings{
		EntityID: a.entityID, ACS: a.acs, MetadataURL: a.entityID, Prepared: row.Generation > 0,
		Descriptor: row.Descriptor, DescriptorURL: row.DescriptorURL,
		NameIDFormat: row.NameIDFormat, Attributes: row.attributes(), Domains: row.domains(),
		AllowIdPInitiated: row.IDPInitiated, AllowEncrypted: row.Encrypted, SignUp: row.SignUp,
	}
	if row.Descriptor == "" {
		return s, nil
	}
	d, err := parseDescriptor([]byte(row.Descriptor))
	if err != nil {
		return Settings{}, errs.Wrap(errs.Internal, err, "")
	}
	s.IdPEntityID, s.SSOURL, s.Binding, s.Certificates, s.ValidUntil = d.EntityID, d.SSOURL, d.Binding, d.Certificates, d.ValidUntil
	s.Warnings = row.warnings(d, now)
	return s, nil
}

// Configure changes the settings of an organization, whose keys it makes the first
// time, and makes the organization one whose members come from SAML once there is an
// identity provider. An empty Change makes only the keys, for an administrator who
// needs our metadata before there is a descriptor.
//
// errs.Invalid says what is wrong with a descriptor; errs.Unprocessable, why its
// address does not answer with one.
func (p *Provider) Configure(ctx context.Context, actor identity.Principal, organizationID string, c Change) (Settings, error) {
	o, err := p.directory.OrganizationByID(ctx, organizationID)
	if err != nil {
		return Settings{}, err
	}
	now, err := p.clock(ctx)
	if err != nil {
		return Settings{}, err
	}
	before, err := p.store.provider(ctx, organizationID)
	if errs.KindOf(err) == errs.NotFound {
		before, err = p.fresh(organizationID, now)
	}
	if err != nil {
		return Settings{}, err
	}
	after, err := p.change(ctx, before, c, now)
	if err != nil {
		return Settings{}, err
	}
	err = p.db.Tx(ctx, func(ctx context.Context) error {
		if err := p.store.save(ctx, after); err != nil {
			return err
		}
		if err := p.record(ctx, actor, o, before, after); err != nil {
			return err
		}
		if after.Descriptor == "" || o.Connector == identity.SAMLConnector(o.ID) {
			return nil
		}
		_, err := p.directory.BackOrganization(ctx, actor, o.ID, identity.Backing{Kind: identity.KindSAMLBacked, Connector: identity.SAMLConnector(o.ID)})
		return err
	})
	if err != nil {
		return Settings{}, err
	}
	after.Generation++
	return p.settings(o, after, now)
}

// fresh returns the row of an organization that had none, with keys.
func (p *Provider) fresh(organizationID string, now time.Time) (providerRow, error) {
	row := providerRow{OrganizationID: organizationID, SignUp: true}
	s, err := p.newPair(organizationID, signing, now)
	if err != nil {
		return row, err
	}
	e, err := p.newPair(organizationID, encryption, now)
	if err != nil {
		return row, err
	}
	row.SigningKey, row.SigningCertificate, row.EncryptionKey, row.EncryptionCertificate = s.key, s.certificate, e.key, e.certificate
	if err := row.setAttributes(AttributeMap{}); err != nil {
		return row, err
	}
	return row, row.setDomains([]string{})
}

// change returns row with c in it.
func (p *Provider) change(ctx context.Context, row providerRow, c Change, now time.Time) (providerRow, error) {
	if err := p.changeDescriptor(ctx, &row, c, now); err != nil {
		return row, err
	}
	if c.NameIDFormat != nil {
		if f := *c.NameIDFormat; f != "" && f != Persistent && f != EmailAddress {
			return row, invalid("the name ID format is %s or %s, or empty for either", Persistent, EmailAddress)
		}
		row.NameIDFormat = *c.NameIDFormat
	}
	set(&row.IDPInitiated, c.AllowIdPInitiated)
	set(&row.Encrypted, c.AllowEncrypted)
	set(&row.SignUp, c.SignUp)
	if c.Attributes != nil {
		m := *c.Attributes
		for _, name := range []*string{&m.Login, &m.Name, &m.FirstName, &m.LastName, &m.Email, &m.Groups} {
			if *name = strings.TrimSpace(*name); len(*name) > maxValue {
				return row, invalid("the name of an attribute has at most %d bytes", maxValue)
			}
		}
		if err := row.setAttributes(m); err != nil {
			return row, err
		}
	}
	if c.Domains != nil {
		domains, err := cleanDomains(*c.Domains)
		if err != nil {
			return row, err
		}
		if err := row.setDomains(domains); err != nil {
			return row, err
		}
	}
	row.Updated = database.Micros(now)
	return row, nil
}

func set(to, from *bool) {
	if from != nil {
		*to = *from
	}
}

func (p *Provider) changeDescriptor(ctx context.Context, row *providerRow, c Change, now time.Time) error {
	pasted := c.Descriptor != nil && *c.Descriptor != ""
	linked := c.DescriptorURL != nil && *c.DescriptorURL != ""
	var text []byte
	switch {
	case pasted && linked:
		return invalid("a descriptor is given as text or as an address, not as both")
	case linked:
		var err error
		if text, err = p.fetch(ctx, *c.DescriptorURL); err != nil {
			return err
		}
		row.DescriptorURL, row.NextFetch = *c.DescriptorURL, database.Micros(now.Add(fetchEvery))
	case pasted:
		text = []byte(*c.Descriptor)
		row.DescriptorURL, row.NextFetch = "", 0
	default:
		if c.DescriptorURL != nil { // the descriptor stays as it was fetched last
			row.DescriptorURL, row.NextFetch, row.FetchError = "", 0, ""
		}
		return nil
	}
	d, err := parseDescriptor(text)
	if err != nil {
		return err
	}
	if err := p.acceptable(d, now); err != nil {
		return err
	}
	row.Descriptor, row.FetchError = string(text), ""
	if supported := d.format(); row.NameIDFormat == "" || supported != "" && !slices.Contains(d.NameIDFormats, row.NameIDFormat) {
		row.NameIDFormat = supported
	}
	return nil
}

// maxDomains bounds how many domains an organization has.
const maxDomains = 100

func cleanDomains(given []string) ([]string, error) {
	domains := []string{}
	for _, d := range given {
		d = strings.ToLower(strings.TrimSpace(d))
		if _, err := identity.CanonicalEmail("x@" + d); err != nil || len(domains) == maxDomains {
			return nil, invalid("%q is not a domain of email addresses, or there are more than %d of them", d, maxDomains)
		}
		if !slices.Contains(domains, d) {
			domains = append(domains, d)
		}
	}
	slices.Sort(domains)
	return domains, nil
}

// Remove takes an organization's identity provider away, with our keys: people can no
// longer sign in by it, and those who stay members do so as ordinary ones.
func (p *Provider) Remove(ctx context.Context, actor identity.Principal, organizationID string) error {
	o, err := p.directory.OrganizationByID(ctx, organizationID)
	if err != nil {
		return err
	}
	return p.db.Tx(ctx, func(ctx context.Context) error {
		before, err := p.store.provider(ctx, organizationID)
		if err != nil {
			return err
		}
		if removed, err := p.store.remove(ctx, organizationID); err != nil || !removed {
			return err
		}
		if err := p.record(ctx, actor, o, before, providerRow{}); err != nil {
			return err
		}
		if o.Connector != identity.SAMLConnector(o.ID) {
			return nil
		}
		_, err = p.directory.BackOrganization(ctx, actor, o.ID, identity.Backing{})
		return err
	})
}

// record puts a change on record in the organization's log.
func (p *Provider) record(ctx context.Context, actor identity.Principal, o identity.Organization, before, after providerRow) error {
	description := "Changed the SAML settings of " + o.Login
	switch {
	case after.OrganizationID == "":
		description = "Removed the SAML settings of " + o.Login
	case before.Generation == 0:
		description = "Set up SAML for " + o.Login
	}
	_, err := p.audit.AppendDone(ctx, o.ID, actor.Did(audit.Event{
		Name: "saml-configuration-updated", Object: o.Login, Description: description,
		Decision: audit.Allow, Before: before.facts(), After: after.facts(),
	}), audit.Outcome{Result: audit.Succeeded})
	return err
}

// facts are what the audit log is told about a row: nothing that is secret, and no XML.
func (r providerRow) facts() map[string]string {
	if r.OrganizationID == "" || r.Updated == 0 {
		return nil
	}
	facts := map[string]string{
		"name_id_format": r.NameIDFormat, "descriptor_url": r.DescriptorURL, "email_domains": strings.Join(r.domains(), " "),
		"idp_initiated": strconv.FormatBool(r.IDPInitiated), "encrypted": strconv.FormatBool(r.Encrypted), "sign_up": strconv.FormatBool(r.SignUp),
	}
	if u, err := url.Parse(r.DescriptorURL); err == nil && u.RawQuery != "" { // may be a key to the address
		u.RawQuery = "..."
		facts["descriptor_url"] = u.String()
	}
	m := r.attributes()
	facts["attributes"] = strings.Join([]string{m.Login, m.Name, m.FirstName, m.LastName, m.Email, m.Groups}, " ")
	if d, err := parseDescriptor([]byte(r.Descriptor)); err == nil {
		var prints []string
		for _, c := range d.Certificates {
			prints = append(prints, c.Fingerprint)
		}
		facts["entity_id"], facts["sso_url"], facts["fingerprints"] = d.EntityID, d.SSOURL, strings.Join(prints, " ")
	}
	for name, value := range facts {
		if strings.TrimSpace(value) == "" {
			delete(facts, name)
		}
	}
	return facts
}

// formats are the NameID formats of our metadata, the one that is asked for first.
func (r providerRow) formats() []string {
	if r.NameIDFormat == EmailAddress {
		return []string{EmailAddress, Persistent}
	}
	return []string{Persistent, EmailAddress}
}

// warnAhead is how long before the end of a certificate administrators are told.
const warnAhead = 30 * 24 * time.Hour

// warnings returns what is about to stop people from signing in.
func (r providerRow) warnings(d Descriptor, now time.Time) []string {
	var found []string
	for _, c := range d.Certificates {
		if w := ending("the identity provider's signing certificate "+c.Fingerprint[:11], c.NotAfter, now); w != "" {
			found = append(found, w+": get the current descriptor from the identity provider")
		}
		if now.Before(c.NotBefore) {
			found = append(found, fmt.Sprintf("the identity provider's signing certificate %s is not valid before %s", c.Fingerprint[:11], date(c.NotBefore)))
		}
	}
	if w := ending("the identity provider's descriptor", d.ValidUntil, now); w != "" {
		found = append(found, w+": get the current one from the identity provider")
	}
	for u, der := range map[use][]byte{signing: r.SigningCertificate, encryption: r.EncryptionCertificate} {
		if c, err := x509.ParseCertificate(der); err == nil {
			if w := ending("our own "+string(u)+" certificate", c.NotAfter, now); w != "" {
				found = append(found, w+": remove the SAML settings and set them up again")
			}
		}
	}
	if r.FetchError != "" {
		found = append(found, "the descriptor could not be fetched again: "+r.FetchError)
	}
	slices.Sort(found)
	return found
}

// ending returns what to say about something that ends at a time: nothing while that is
// far, and more urgently within 30 days, 7 days and one day.
func ending(what string, end, now time.Time) string {
	left := end.Sub(now)
	days := int(math.Ceil(left.Hours() / 24))
	switch {
	case end.IsZero() || left > warnAhead:
		return ""
	case left <= 0:
		return fmt.Sprintf("%s expired on %s", what, date(end))
	case days <= 1:
		return fmt.Sprintf("urgent: %s expires within a day, on %s", what, date(end))
	case days <= 7:
		return fmt.Sprintf("soon: %s expires within 7 days, on %s", what, date(end))
	}
	return fmt.Sprintf("%s expires within 30 days, on %s", what, date(end))
}
