package saml_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/identity/saml"
	"github.com/ipuka/ipuka/identity/saml/samltest"
)

func (b *bed) accepted(t *testing.T, a samltest.Answer) identity.External {
	t.Helper()
	x, refusal := b.verify(b.idp.Response(t, a))
	if refusal != nil {
		t.Fatal(refusal, refusal.Detail)
	}
	return x
}

func ids(groups []identity.Group) []string {
	var all []string
	for _, g := range groups {
		all = append(all, g.ID)
	}
	return all
}

func TestAttributes(t *testing.T) {
	const claims = "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/"
	for _, c := range []struct {
		name       string
		attributes [][]string
		names      saml.AttributeMap
		want       identity.External
	}{
		{"as Pulumi Cloud asks for them", [][]string{{"firstName", "Alice"}, {"lastName", "Adams"}, {"email", "alice@acme.test"}}, saml.AttributeMap{},
			identity.External{Login: "alice", Name: "Alice Adams", Email: "alice@acme.test", EmailVerified: true}},
		{"LDAP", [][]string{{"uid", "aadams"}, {"cn", "Alice Adams"}, {"mail", "alice@acme.test"}, {"memberOf", "cn=dev"}}, saml.AttributeMap{},
			identity.External{Login: "aadams", Name: "Alice Adams", Email: "alice@acme.test", EmailVerified: true, Groups: []identity.Group{{ID: "cn=dev", Path: "cn=dev"}}}},
		{"OIDs", [][]string{
			{"urn:oid:0.9.2342.19200300.100.1.1", "aadams"}, {"urn:oid:2.16.840.1.113730.3.1.241", "Alice Adams"},
			{"urn:oid:0.9.2342.19200300.100.1.3", "alice@acme.test"}, {"urn:oid:1.3.6.1.4.1.5923.1.5.1.1", "dev"},
		}, saml.AttributeMap{},
			identity.External{Login: "aadams", Name: "Alice Adams", Email: "alice@acme.test", EmailVerified: true, Groups: []identity.Group{{ID: "dev", Path: "dev"}}}},
		{"Entra ID", [][]string{
			{claims + "name", "aadams@acme.test"}, {claims + "givenname", "Alice"}, {claims + "surname", "Adams"}, {claims + "emailaddress", "alice@acme.test"},
			{"http://schemas.microsoft.com/ws/2008/06/identity/claims/groups", "8b1e", "77c0"},
		}, saml.AttributeMap{},
			identity.External{Login: "aadams", Name: "Alice Adams", Email: "alice@acme.test", EmailVerified: true, Groups: []identity.Group{{ID: "8b1e", Path: "8b1e"}, {ID: "77c0", Path: "77c0"}}}},
		{"names that were given", [][]string{{"email", "wrong@acme.test"}, {"work", "alice@acme.test"}, {"teams", "dev"}, {"groups", "wrong"}, {"who", "A"}, {"nick", "al"}},
			saml.AttributeMap{Email: "work", Groups: "teams", Name: "who", Login: "nick"},
			identity.External{Login: "al", Name: "A", Email: "alice@acme.test", EmailVerified: true, Groups: []identity.Group{{ID: "dev", Path: "dev"}}}},
		{"another domain", [][]string{{"mail", "alice@elsewhere.test"}}, saml.AttributeMap{}, identity.External{Login: "alice", Email: "alice@elsewhere.test"}},
		{"a domain that only ends like ours", [][]string{{"mail", "alice@notacme.test"}}, saml.AttributeMap{}, identity.External{Login: "alice", Email: "alice@notacme.test"}},
		{"below our domain", [][]string{{"mail", "alice@x.acme.test"}}, saml.AttributeMap{}, identity.External{Login: "alice", Email: "alice@x.acme.test"}},
		{"no address", [][]string{{"mail", "alice"}}, saml.AttributeMap{}, identity.External{}},
		{"two addresses in one", [][]string{{"mail", "alice@acme.test, bob@acme.test"}}, saml.AttributeMap{}, identity.External{}},
		{"no groups", [][]string{{"groups"}}, saml.AttributeMap{}, identity.External{Groups: []identity.Group{}}},
		{"nothing", nil, saml.AttributeMap{}, identity.External{}},
		{"SAML-41 script", [][]string{{"displayName", `"><script>alert(1)</script>`}}, saml.AttributeMap{}, identity.External{Name: `"><script>alert(1)</script>`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBed(t)
			b.verifier.Attributes = c.names
			a := b.answer("both")
			a.Attributes = c.attributes
			x := b.accepted(t, a)
			if x.Login != c.want.Login || x.Name != c.want.Name || x.Email != c.want.Email || x.EmailVerified != c.want.EmailVerified ||
				!slices.Equal(x.Groups, c.want.Groups) || (x.Groups == nil) != (c.want.Groups == nil) {
				t.Errorf("%+v", x)
			}
			if len(x.Attributes) != len(c.attributes) {
				t.Errorf("shown: %q", x.Attributes)
			}
		})
	}
}

// SAML-47: groups are what they are called; the directory bounds how many count.
func TestGroups(t *testing.T) {
	b := newBed(t)
	a := b.answer("both")
	hostile := []string{"groups", "admin", "r:orgadmin", "a$$b", "a,b", "a\nb", "", "admin", strings.Repeat("x", 257), " padded "}
	a.Attributes = [][]string{hostile}
	if got, want := ids(b.accepted(t, a).Groups), []string{"admin", "r:orgadmin", "a$$b", "a,b", "padded"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	for _, g := range b.accepted(t, a).Groups {
		if g.Admin || g.Parent != "" {
			t.Errorf("%+v", g)
		}
	}
	many := []string{"groups"}
	for i := range 800 {
		many = append(many, fmt.Sprintf("g%d", i))
	}
	a.Attributes = [][]string{many}
	x := b.accepted(t, a)
	if len(x.Groups) != 800 || len(x.Attributes["groups"]) != 100 {
		t.Errorf("%d groups, %d shown", len(x.Groups), len(x.Attributes["groups"]))
	}
	for i := range 9_200 {
		many = append(many, fmt.Sprintf("h%d", i))
	}
	a.Attributes = [][]string{many}
	_, refusal := b.verify(b.idp.Response(t, a))
	check(t, identity.External{}, refusal, "saml_too_large", "")
}

func TestSubjects(t *testing.T) {
	b := newBed(t)
	a := b.answer("both")
	a.Attributes = nil
	a.NameID, a.Format = "Alice@acme.test", samltest.EmailAddress
	if x := b.accepted(t, a); x.Subject != "Alice@acme.test" || x.Email != "alice@acme.test" || !x.EmailVerified || x.Login != "alice" {
		t.Errorf("%+v", x)
	}
	a.NameID, a.Format = "Ünïcode 42", samltest.Persistent
	if x := b.accepted(t, a); x.Subject != "Ünïcode 42" || x.Email != "" {
		t.Errorf("%+v", x)
	}
}

func TestSessionAndReplay(t *testing.T) {
	b := newBed(t)
	a := b.answer("both")
	if x := b.accepted(t, a); !x.Expires.IsZero() {
		t.Errorf("expires %v", x.Expires)
	}
	a.SessionEnd = b.now.Add(time.Hour)
	d := b.idp.Document(t, a)
	x, refusal := b.verify(samltest.Encode(t, d))
	if refusal != nil || !x.Expires.Equal(a.SessionEnd) {
		t.Fatalf("%+v %v", x, refusal)
	}
	again, _ := b.verify(samltest.Encode(t, d))
	other := b.accepted(t, a)
	if !slices.Equal(x.Once, again.Once) || x.Once[0].Key == other.Once[0].Key || x.Once[1] != other.Once[1] {
		t.Errorf("%v, %v and %v", x.Once, again.Once, other.Once)
	}
	if !strings.HasPrefix(x.Once[0].Key, "saml-assertion:") || x.Once[1].Key != "saml-request:"+request || len(x.Once[0].Key) > 100 {
		t.Errorf("%v", x.Once)
	}
	// As long as it could be accepted, on a machine with another clock too.
	if until := x.Once[0].Until; until.Before(b.now.Add(8*time.Minute)) || until.After(b.now.Add(9*time.Minute)) {
		t.Errorf("remembered until %v", until)
	}
	a.Assertion = edit(".//Conditions", "NotOnOrAfter", "2090-01-01T00:00:00Z")
	if until := b.accepted(t, a).Once[0].Until; until.After(b.now.Add(24 * time.Hour)) {
		t.Errorf("remembered until %v", until)
	}
}

func TestECDSA(t *testing.T) {
	b := newBed(t)
	b.idp = samltest.NewECDSASigner(t, issuer)
	b.verifier.Certificates[0] = b.idp.Certificate
	b.accepted(t, b.answer("both"))
	raw := strings.Replace(text(t, b.idp.Document(t, b.answer("both"))), ">alice<", ">mallory<", 1)
	x, refusal := b.verifyXML(raw)
	check(t, x, refusal, "saml_signature", "")
}
