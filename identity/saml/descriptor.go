package saml

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/xml"
	"errors"
	"io"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	crewjam "github.com/crewjam/saml"

	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/httpapi"
)

// Descriptor is what an identity provider's metadata (SAML metadata §2) says that
// matters here.
type Descriptor struct {
	EntityID      string
	SSOURL        string // where browsers are sent to
	Binding       string // how: crewjam/saml's HTTPRedirectBinding or HTTPPostBinding
	NameIDFormats []string
	Certificates  []Certificate // for signing
	ValidUntil    time.Time     // zero: for ever

	certificates []*x509.Certificate
}

// Certificate is a certificate as an administrator compares it.
type Certificate struct {
	Subject             string
	NotBefore, NotAfter time.Time
	Fingerprint         string // SHA-256
}

// What a descriptor may cost. Those of ADFS have 1,000 elements.
const (
	maxDescriptor         = 1 << 20
	maxDescriptorElements = 20_000
)

// The elements of metadata that are read.
type (
	xmlEntities struct {
		ValidUntil string      `xml:"validUntil,attr"`
		Entities   []xmlEntity `xml:"urn:oasis:names:tc:SAML:2.0:metadata EntityDescriptor"`
		Nested     []xmlEmpty  `xml:"urn:oasis:names:tc:SAML:2.0:metadata EntitiesDescriptor"`
	}
	xmlEmpty  struct{}
	xmlEntity struct {
		EntityID   string    `xml:"entityID,attr"`
		ValidUntil string    `xml:"validUntil,attr"`
		Roles      []xmlRole `xml:"urn:oasis:names:tc:SAML:2.0:metadata IDPSSODescriptor"`
	}
	xmlRole struct {
		Protocols  string       `xml:"protocolSupportEnumeration,attr"`
		ValidUntil string       `xml:"validUntil,attr"`
		Keys       []xmlKey     `xml:"urn:oasis:names:tc:SAML:2.0:metadata KeyDescriptor"`
		Formats    []string     `xml:"urn:oasis:names:tc:SAML:2.0:metadata NameIDFormat"`
		Services   []xmlService `xml:"urn:oasis:names:tc:SAML:2.0:metadata SingleSignOnService"`
	}
	xmlKey struct {
		Use  string    `xml:"use,attr"`
		Data []xmlX509 `xml:"http://www.w3.org/2000/09/xmldsig# KeyInfo>X509Data"`
	}
	xmlX509 struct {
		Certificates []string `xml:"http://www.w3.org/2000/09/xmldsig# X509Certificate"`
	}
	xmlService struct {
		Binding  string `xml:"Binding,attr"`
		Location string `xml:"Location,attr"`
	}
)

func invalid(format string, args ...any) error {
	for i, arg := range args {
		if text, ok := arg.(string); ok {
			args[i] = httpapi.Clean(text, 200)
		}
	}
	return errs.Errorf(errs.Invalid, format, args...)
}

// ParseDescriptor returns what the text of an identity provider's metadata says, or
// errs.Invalid with what an administrator has to change in it.
func (p *Provider) ParseDescriptor(text []byte) (Descriptor, error) {
	now := time.Now()
	if p.now != nil {
		now = p.now()
	}
	d, err := parseDescriptor(text)
	if err != nil {
		return Descriptor{}, err
	}
	if err := p.acceptable(d, now); err != nil {
		return Descriptor{}, err
	}
	return d, nil
}

// acceptable judges a descriptor by the clock and by who we are.
func (p *Provider) acceptable(d Descriptor, now time.Time) error {
	if !d.ValidUntil.IsZero() && !now.Before(d.ValidUntil) {
		return invalid("the descriptor was valid until %s: get the current one from the identity provider", date(d.ValidUntil))
	}
	if len(verifier{certificates: d.certificates}.valid(now)) == 0 {
		last := slices.MaxFunc(d.certificates, func(a, b *x509.Certificate) int { return a.NotAfter.Compare(b.NotAfter) })
		if now.Before(last.NotBefore) {
			return invalid("the signing certificate in the descriptor is not valid before %s", date(last.NotBefore))
		}
		return invalid("the signing certificate in the descriptor expired on %s: get the current descriptor from the identity provider", date(last.NotAfter))
	}
	if to, err := url.Parse(d.SSOURL); err != nil || authority(to) == authority(p.console) {
		return invalid("the descriptor's single sign-on address %s is this server itself: a descriptor of the identity provider is needed, not ours", d.SSOURL)
	}
	return nil
}

// parseDescriptor reads a descriptor and judges everything but time.
func parseDescriptor(text []byte) (Descriptor, error) {
	entity, err := readEntity(text)
	if err != nil {
		return Descriptor{}, err
	}
	d := Descriptor{EntityID: strings.TrimSpace(entity.EntityID)}
	if d.EntityID == "" || len(d.EntityID) > 1024 {
		return d, invalid("the descriptor's EntityDescriptor has no entityID")
	}
	var roles []xmlRole
	for _, r := range entity.Roles {
		if r.Protocols == "" || slices.Contains(strings.Fields(r.Protocols), protocolNS) {
			roles = append(roles, r)
		}
	}
	switch len(roles) {
	case 0:
		return d, invalid("the descriptor has no IDPSSODescriptor for SAML 2.0: a descriptor of an identity provider is needed, not one of a service provider")
	case 1:
	default:
		return d, invalid("the descriptor has %d IDPSSODescriptors for SAML 2.0, and one is expected", len(roles))
	}
	role := roles[0]
	for _, value := range []string{entity.ValidUntil, role.ValidUntil} {
		if err := d.limit(value); err != nil {
			return d, err
		}
	}
	if err := d.readKeys(role.Keys); err != nil {
		return d, err
	}
	if err := d.readServices(role.Services); err != nil {
		return d, err
	}
	return d, d.readFormats(role.Formats)
}

// readEntity returns the one EntityDescriptor.
func readEntity(text []byte) (xmlEntity, error) {
	text = bytes.TrimPrefix(text, []byte("\ufeff")) // Entra ID's file begins with it
	var entity xmlEntity
	if len(bytes.TrimSpace(text)) == 0 {
		return entity, invalid("the descriptor is empty: paste the identity provider's metadata, an XML document that begins with EntityDescriptor")
	}
	root, err := countDescriptor(text)
	if err != nil {
		return entity, err
	}
	if root == (xml.Name{Space: metadataNS, Local: "EntityDescriptor"}) {
		if err := xml.Unmarshal(text, &entity); err != nil {
			return entity, errNotXML()
		}
		return entity, nil
	}
	if root != (xml.Name{Space: metadataNS, Local: "EntitiesDescriptor"}) {
		return entity, invalid("the descriptor is a %s and not an EntityDescriptor of SAML 2.0 metadata", root.Local)
	}
	var all xmlEntities
	if err := xml.Unmarshal(text, &all); err != nil {
		return entity, errNotXML()
	}
	if len(all.Entities) != 1 || len(all.Nested) > 0 {
		return entity, invalid("the descriptor describes several entities: cut it down to the EntityDescriptor of the one identity provider")
	}
	entity = all.Entities[0]
	if entity.ValidUntil == "" {
		entity.ValidUntil = all.ValidUntil
	}
	return entity, nil
}

func errNotXML() error {
	return invalid("the descriptor is not XML in UTF-8: paste the identity provider's metadata as it is, without a web page around it")
}

// countDescriptor reads the tokens of a descriptor without keeping them, and returns
// the name of its element.
func countDescriptor(text []byte) (xml.Name, error) {
	var root xml.Name
	if len(text) > maxDescriptor {
		return root, invalid("the descriptor is larger than %d KiB", maxDescriptor>>10)
	}
	if bytes.Contains(text, []byte("<!DOCTYPE")) || bytes.Contains(text, []byte("<!ENTITY")) {
		return root, invalid("the descriptor has a document type declaration (DOCTYPE), which is not accepted")
	}
	decoder := xml.NewDecoder(bytes.NewReader(text))
	for elements, depth := 0, 0; ; {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return root, errNotXML()
		}
		switch token := token.(type) {
		case xml.StartElement:
			if depth == 0 {
				if root.Local != "" {
					return root, errNotXML()
				}
				root = token.Name
			}
			depth++
			if elements++; elements > maxDescriptorElements || depth > maxDepth || len(token.Attr) > maxAttributes {
				return root, invalid("the descriptor is too large: cut it down to the EntityDescriptor of the one identity provider")
			}
		case xml.EndElement:
			depth--
		case xml.Directive:
			return root, invalid("the descriptor has a document type declaration (DOCTYPE), which is not accepted")
		}
	}
	if root.Local == "" {
		return root, errNotXML()
	}
	return root, nil
}

// limit takes validUntil into account.
func (d *Descriptor) limit(value string) error {
	if value == "" {
		return nil
	}
	t, err := time.Parse(time.RFC3339Nano, value)
	if err != nil {
		return invalid("the descriptor's validUntil %s is not a time", value)
	}
	if d.ValidUntil.IsZero() || t.Before(d.ValidUntil) {
		d.ValidUntil = t.UTC()
	}
	return nil
}

// readKeys takes the first certificate of each key for signing: more of them in one
// place are the chain of that one, whose keys sign certificates and not people.
func (d *Descriptor) readKeys(keys []xmlKey) error {
	weak := false
	for _, k := range keys {
		if k.Use != "" && k.Use != string(signing) {
			continue
		}
		for _, data := range k.Data {
			if len(data.Certificates) == 0 {
				continue
			}
			c, err := certificate(data.Certificates[0])
			if err != nil {
				return invalid("a signing certificate in the descriptor cannot be read")
			}
			if !strong(c) {
				weak = true
				continue
			}
			if !slices.ContainsFunc(d.certificates, c.Equal) {
				d.certificates = append(d.certificates, c)
				d.Certificates = append(d.Certificates, Certificate{
					Subject: httpapi.Clean(c.Subject.String(), 200), NotBefore: c.NotBefore, NotAfter: c.NotAfter, Fingerprint: fingerprint(c),
				})
			}
		}
	}
	switch {
	case len(d.certificates) > 0:
		return nil
	case weak:
		return invalid("the descriptor's signing key is too weak: RSA with 2048 bits or ECDSA with P-256 is needed at least")
	}
	return invalid("the descriptor has no usable signing certificate (KeyDescriptor with an X509Certificate)")
}

func strong(c *x509.Certificate) bool {
	switch k := c.PublicKey.(type) {
	case *rsa.PublicKey:
		return k.N.BitLen() >= 2048
	case *ecdsa.PublicKey:
		return k.Params().BitSize >= 256
	}
	return false
}

func (d *Descriptor) readServices(services []xmlService) error {
	for _, s := range services {
		if s.Binding != crewjam.HTTPRedirectBinding && s.Binding != crewjam.HTTPPostBinding {
			continue
		}
		location := strings.TrimSpace(s.Location)
		if err := checkLocation(location); err != nil {
			return err
		}
		if d.SSOURL == "" || s.Binding == crewjam.HTTPRedirectBinding && d.Binding != s.Binding {
			d.SSOURL, d.Binding = location, s.Binding
		}
	}
	if d.SSOURL == "" {
		return invalid("the descriptor has no SingleSignOnService with the HTTP-Redirect or the HTTP-POST binding")
	}
	return nil
}

// checkLocation sees to it that a browser can be sent there: javascript: and data: would
// run as a page of ours (CVE-2023-45683).
func checkLocation(location string) error {
	u, err := url.Parse(location)
	if err != nil || u.Host == "" || u.Hostname() == "" || u.User != nil || u.Fragment != "" || u.Opaque != "" || len(location) > 2048 ||
		u.Scheme != "https" && u.Scheme != "http" {
		return invalid("the descriptor's single sign-on address %s is not an https address", location)
	}
	if u.Scheme == "http" && !loopback(u.Hostname()) {
		return invalid("the descriptor's single sign-on address %s is not encrypted: https is needed", location)
	}
	return nil
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}

// authority returns host and port of an address, to be compared.
func authority(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"https": "443", "http": "80"}[u.Scheme]
	}
	return strings.TrimSuffix(strings.ToLower(u.Hostname()), ".") + ":" + port
}

// readFormats wants a name that stays with a person. An identity provider that lists
// none sends what it is asked for.
func (d *Descriptor) readFormats(formats []string) error {
	for _, f := range formats {
		d.NameIDFormats = append(d.NameIDFormats, strings.TrimSpace(f))
	}
	if len(formats) > 0 && !slices.Contains(d.NameIDFormats, Persistent) && !slices.Contains(d.NameIDFormats, EmailAddress) {
		return invalid("the descriptor's NameIDFormat is neither %s nor %s: people cannot be recognized by %s", Persistent, EmailAddress, d.NameIDFormats[0])
	}
	return nil
}

// format returns the format to ask for when nobody has chosen one; "" when the
// identity provider does not say what it has.
func (d Descriptor) format() string {
	for _, f := range []string{Persistent, EmailAddress} {
		if slices.Contains(d.NameIDFormats, f) {
			return f
		}
	}
	return ""
}
