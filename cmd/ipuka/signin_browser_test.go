package main

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-rod/rod"
	"github.com/pquerna/otp/totp"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/identity/github/githubtest"
	"github.com/ipuka/ipuka/identity/gitlab/gitlabtest"
	"github.com/ipuka/ipuka/identity/oidc/oidctest"
	"github.com/ipuka/ipuka/identity/saml/samltest"
)

// TestBrowserSignIn walks every way to sign in, in a real browser: the servers on the
// other side speak GitHub's, GitLab's and OpenID's protocols, the SAML provider is
// SimpleSAMLphp.
func TestBrowserSignIn(t *testing.T) {
	browser := openBrowser(t)
	t.Run("connectors", func(t *testing.T) { testConnectors(t, browser) })
	t.Run("second factor", func(t *testing.T) { testSecondFactor(t, browser) })
	t.Run("invite", func(t *testing.T) { testInvite(t, browser) })
	t.Run("SAML", func(t *testing.T) { testSAML(t, browser) })
}

// providers are the servers that the connectors of a house lead to.
type providers struct {
	github *githubtest.Server
	gitlab *gitlabtest.Server
	oidc   *oidctest.Provider
}

func startProviders(t *testing.T) (p providers, file string) {
	t.Helper()
	p = providers{githubtest.Start(t), gitlabtest.Start(t), oidctest.Start(t)}
	p.github.SetUser(githubtest.User{ID: 7, Login: "octavia", Name: "Octavia Cat", Emails: []githubtest.Email{{Address: "octavia@example.com", Primary: true, Verified: true}}})
	p.github.SetOrganization(githubtest.Organization{ID: 70, Login: "cats", Members: map[string]githubtest.Membership{"octavia": {Role: "admin"}},
		Teams: []githubtest.Team{{ID: 700, Slug: "claws", Name: "Claws", Members: []string{"octavia"}}}})
	p.gitlab.SetUser(gitlabtest.User{ID: 8, Username: "fiona", Name: "Fiona Fox", Email: "fiona@example.com", Confirmed: true})
	folder := t.TempDir()
	secret := func(name, text string) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	file = secret("ipuka.yaml", fmt.Sprintf(`
connectors:
  - {kind: github, url: %q, client_id: %q, client_secret_file: %q}
  - {kind: gitlab, url: %q, client_id: %q, client_secret_file: %q}
  - {kind: oidc, name: sso, title: Example SSO, issuer: %q, client_id: %q, client_secret_file: %q, groups_claim: groups}
  - {kind: oidc, name: away, title: Somebody away, issuer: "http://127.0.0.1:1", client_id: x, client_secret_file: %q}
`, p.github.URL, p.github.ClientID, secret("github", p.github.ClientSecret), p.gitlab.URL, p.gitlab.ClientID, secret("gitlab", p.gitlab.ClientSecret),
		p.oidc.Issuer, oidctest.ClientID, secret("oidc", oidctest.ClientSecret), secret("away", "x")))
	return p, file
}

func testConnectors(t *testing.T, browser *rod.Browser) {
	p, file := startProviders(t)
	house := installWith(t, file)
	house.prepare()

	octavia := house.tab(t, browser, "github", true)
	octavia.others = []string{p.github.URL, p.gitlab.URL, p.oidc.Issuer}
	octavia.open("/signin", 200)
	octavia.look("ways")
	octavia.signInWithGitHub(p, "octavia")
	octavia.open("/user/settings/identities", 200)
	octavia.says("octavia", "GitHub")
	octavia.look("methods")

	// Another connector of the same person: proven on both sides, it leads to the same
	// account afterwards.
	octavia.follow("Link Example SSO", 200)
	octavia.typeInto("login", "alice")
	octavia.typeInto("password", "alice-pw")
	octavia.follow("Sign in", 200)
	octavia.isAtPath("/user/settings/identities")
	octavia.says("Example SSO")
	octavia.look("linked")
	octavia.signOut("octavia")
	octavia.open("/signin", 200)
	octavia.follow("Sign in with Example SSO", 200)
	octavia.typeInto("login", "alice")
	octavia.typeInto("password", "alice-pw")
	octavia.follow("Sign in", 200)
	octavia.open("/user/settings/profile", 200)
	octavia.says("octavia")
	octavia.quiet()

	fiona := house.tab(t, browser, "gitlab", true)
	fiona.others = octavia.others
	fiona.open("/signin", 200)
	fiona.follow("Sign in with GitLab", 200)
	fiona.follow("fiona", 200)
	fiona.follow("Authorize", 200)
	fiona.open("/user/settings/identities", 200)
	fiona.says("fiona")

	// A provider that is away breaks its own button and no other.
	away := house.tab(t, browser, "away", false)
	away.others = octavia.others
	away.open("/signin", 200)
	away.expect(house.url+"/signin/with/away", 503)
	away.follow("Sign in with Somebody away", 503)
	away.look("away")
	away.follow("Back to sign-in", 200)
	away.signInWithGitHub(p, "octavia")

	// Whoever ends all sessions elsewhere is out here with the next click.
	octavia.open("/user/settings/sessions", 200)
	octavia.follow("Sign out everywhere", 200)
	away.open("/user/settings/profile", 200)
	away.isAtPath("/signin")

	// A refusal at the provider leads back, with one sentence that says nothing.
	p.gitlab.Revoke("fiona")
	away.open("/signin", 200)
	away.follow("Sign in with GitLab", 200)
	away.follow("fiona", 200)
	away.expect(house.url+"/signin/with/gitlab/callback", 400)
	away.followAny("Cancel")
	away.lacks("access_denied")
	away.look("refused")
	house.administer(t, browser, p)
}

// administer walks the pages of an administrator, of the site and of an organization,
// over the real API.
func (i *house) administer(t *testing.T, browser *rod.Browser, p providers) {
	t.Helper()
	b := i.tab(t, browser, "admin", true)
	b.others = []string{p.github.URL, p.gitlab.URL, p.oidc.Issuer}
	b.signInAs("alice", testPassword)
	for path, says := range map[string]string{
		"/site": "Ways to sign in", "/site/users": "octavia", "/site/organizations": "acme", "/site/connectors": "Somebody away",
		"/site/sign-ins": "oauth_denied", "/site/mail": "no mail server", "/acme/settings/members": "Invite people", "/acme/settings/teams": "team",
		"/acme/settings/general": "Delete", "/acme/settings/saml": "Entity ID", "/acme/settings/provisioning": "/scim/v2/acme", "/new/organization": "organization",
	} {
		b.open(path, 200)
		if !strings.Contains(strings.ToLower(b.text()), strings.ToLower(says)) {
			t.Errorf("%s does not say %q:\n%s", path, says, b.text())
		}
		b.look(strings.ReplaceAll(strings.Trim(path, "/"), "/", "-"))
	}
}

func (b *tab) signInWithGitHub(p providers, login string) {
	b.Helper()
	b.follow("Sign in with GitHub", 200)
	if strings.Contains(b.text(), login) && strings.HasPrefix(b.origin(), p.github.URL) {
		b.follow(login, 200)
	}
	if strings.HasPrefix(b.origin(), p.github.URL) {
		b.follow("Authorize", 200)
	}
	if b.origin() != b.url {
		b.Fatalf("GitHub led to %s", b.origin())
	}
}

func (b *tab) origin() string {
	b.Helper()
	var origin string
	b.eval("location.origin", &origin)
	return origin
}

// isAtPath checks the page's path, whatever its query.
func (b *tab) isAtPath(path string) {
	b.Helper()
	if at, _, _ := strings.Cut(b.at(), "?"); at != path {
		b.Fatalf("at %s and not at %s:\n%s", b.at(), path, b.text())
	}
}

// typeInto fills in the field with a name, on somebody else's page.
func (b *tab) typeInto(name, text string) {
	b.Helper()
	b.eval(fmt.Sprintf(`document.querySelector("input[name=" + %s + "]").value = %s`, quote(name), quote(text)), nil)
}

// followAny is follow whatever the status.
func (b *tab) followAny(text string) {
	b.Helper()
	b.loads(func(page *rod.Page) error { return b.clickOn(page, text) })
}

func (b *tab) signOut(login string) {
	b.Helper()
	b.click("Account menu of " + login)
	b.follow("Sign out", 200)
}

// arrives waits until the browser, led on by the pages of a provider, is back at a
// path of the console.
func (b *tab) arrives(path string) {
	b.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		page := b.page.Timeout(patience)
		info, err := page.Info()
		page.CancelTimeout()
		b.must(err)
		if at, err := url.Parse(info.URL); err == nil && strings.HasPrefix(info.URL, b.url+path) && at.Path == path {
			b.must(b.page.Timeout(patience).WaitLoad())
			return
		}
	}
	b.Fatalf("the browser is not at %s but at %s:\n%s", path, b.at(), b.text())
}

func testSecondFactor(t *testing.T, browser *rod.Browser) {
	house := install(t)
	house.prepare()
	b := house.tab(t, browser, "factor", true)
	b.signInAs("alice", testPassword)
	b.open("/user/settings/totp", 200)
	b.look("enrol")
	secret := strings.ReplaceAll(b.value("#secret"), " ", "")
	code := func(step int) string {
		text, err := totp.GenerateCode(secret, time.Now().Add(time.Duration(step)*30*time.Second))
		b.must(err)
		return text
	}
	b.fill("Code", code(0))
	b.follow("Switch on", 200)
	b.look("codes")
	var codes []string
	b.eval(`document.body.innerText.match(/[a-z2-7]{4}(-[a-z2-7]{4}){3}/g)`, &codes)
	if len(codes) != 10 {
		b.Fatalf("there are %d recovery codes: %s", len(codes), b.text())
	}
	b.secrets = append(b.secrets, codes...)
	b.signOut("alice")

	b.open("/signin", 200)
	b.fill("Login or e-mail", "alice")
	b.fill("Password", testPassword)
	b.follow("Sign in", 200)
	b.isAtPath("/signin/second-factor")
	b.look("challenge")
	b.open("/acme", 200) // halfway is signed out
	b.isAtPath("/signin")
	b.open("/signin/second-factor", 200)
	b.fill("Code", code(1)) // the one of the enrolment does not work again
	b.follow("Sign in", 200)
	b.open("/acme", 200)
	b.isAtPath("/acme")
	b.signOut("alice")

	for _, status := range []int{200, 401} { // a recovery code works once
		b.open("/signin", 200)
		b.fill("Login or e-mail", "alice")
		b.fill("Password", testPassword)
		b.follow("Sign in", 200)
		b.follow("Use a recovery code", 200)
		b.fill("Recovery code", codes[0])
		b.expect(house.url+"/signin/second-factor", status)
		b.follow("Sign in", status)
		if status == 200 {
			b.open("/acme", 200)
			b.isAtPath("/acme")
			b.signOut("alice")
		}
	}
	b.look("recovery-used")
}

func (b *tab) signInAs(login, password string) {
	b.Helper()
	b.open("/signin", 200)
	b.fill("Login or e-mail", login)
	b.fill("Password", password)
	b.follow("Sign in", 200)
}

// testInvite has somebody without an account follow an invite, without a mail server:
// the link in the mail is shown to the site administrator.
func testInvite(t *testing.T, browser *rod.Browser) {
	p, file := startProviders(t)
	house := installWith(t, file)
	token := house.prepare()
	house.call("token "+token, "POST", "/api/orgs/acme/invites/batch", `{"invites":[{"email":"octavia@example.com","role":"member"}]}`, 200)
	var mails struct {
		Mails []struct{ Link string } `json:"mails"`
	}
	if err := json.Unmarshal(house.call("token "+token, "GET", "/api/site/mail", "", 200), &mails); err != nil || len(mails.Mails) != 1 {
		t.Fatalf("%v, %+v", err, mails)
	}
	link, found := strings.CutPrefix(mails.Mails[0].Link, house.url)
	if !found {
		t.Fatalf("the link is %s", mails.Mails[0].Link)
	}
	b := house.tab(t, browser, "invite", true)
	b.others = []string{p.github.URL}
	b.open(link, 200)
	b.says("acme", "Sign in to accept it.")
	b.look("invite")
	b.follow("Sign in", 200)
	b.signInWithGitHub(p, "octavia")
	b.isAtPath("/invite")
	b.look("accept")
	b.follow("Join as octavia", 200)
	b.isAtPath("/acme")
	if members := string(house.call("token "+token, "GET", "/api/orgs/acme/members?type=frontend", "", 200)); !strings.Contains(members, `"octavia"`) {
		t.Errorf("the members are %s", members)
	}
	b.expect(house.url+link, 404)
	b.open(link, 404) // it worked once
}

// testSAML sets an organization's single sign-on up, and has its people arrive.
func testSAML(t *testing.T, browser *rod.Browser) {
	idp := samltest.Start(t)
	house := install(t)
	token := "token " + house.prepare()
	idp.Register(t, house.serviceProvider(t, token, idp.Descriptor(t)))
	house.call(token, "POST", "/api/orgs/acme/saml/admins/alice", "", 204)
	house.call(token, "PATCH", "/api/orgs/acme", `{"setSsoRequired":true}`, 200)

	b := house.tab(t, browser, "saml", true)
	b.others = []string{idp.URL}
	b.open("/signin/sso", 200)
	b.look("organization")
	b.signInWithSAML("bob", "bob-pw")
	b.arrives("/acme")
	b.open("/user/settings/identities", 200)
	b.says("acme")
	b.look("managed")

	// With a token, the API lets bob in while the sign-in counts, and then tells the CLI
	// where to renew it.
	bob := house.tokenOf("bob")
	house.call(bob, "GET", "/api/orgs/acme/members", "", 200)
	house.expireSSO(t)
	answer := string(house.call(bob, "GET", "/api/orgs/acme/members", "", 401))
	if !strings.Contains(answer, `"errorType":"saml_reauth_required"`) || !strings.Contains(answer, `"attribute":"acme"`) {
		t.Errorf("the API answers %s", answer)
	}
	house.call(token, "GET", "/api/orgs/acme/members", "", 200) // the exempt administrator
	b.open("/signin/sso/acme/reauth", 200)
	b.look("reauth")
	b.followAny("Sign in with acme")
	b.arrives("/welcome/acme/sso")
	b.look("renewed")
	house.call(bob, "GET", "/api/orgs/acme/members", "", 200)
}

// serviceProvider sets the organization up with a descriptor and returns our side.
func (i *house) serviceProvider(t *testing.T, token, descriptor string) samltest.SP {
	t.Helper()
	body, err := json.Marshal(map[string]string{"newIdpSsoDescriptor": descriptor})
	if err != nil {
		t.Fatal(err)
	}
	var set struct {
		ServiceProvider struct{ EntityID, ACS string } `json:"serviceProvider"`
	}
	if err := json.Unmarshal(i.call(token, "PATCH", "/api/orgs/acme/saml", string(body), http.StatusOK), &set); err != nil {
		t.Fatal(err)
	}
	metadata, err := i.app.saml.Metadata(context.Background(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	return samltest.SP{
		EntityID: set.ServiceProvider.EntityID, ACS: set.ServiceProvider.ACS, Signing: signingCertificate(t, metadata),
		SignResponse: true, SignAssertion: true,
	}
}

func (b *tab) signInWithSAML(login, password string) {
	b.Helper()
	b.open("/signin/sso/acme?returnTo=/acme", 200)
	if b.origin() == b.url {
		b.followAny("Continue")
	}
	b.typeInto("username", login)
	b.typeInto("password", password)
	b.loads(func(*rod.Page) error {
		b.eval(`document.querySelector("form[name=f], form").submit()`, nil)
		return nil
	})
}

// tokenOf makes an access token of somebody, as the server's commander could.
func (i *house) tokenOf(login string) string {
	i.t.Helper()
	ctx := context.Background()
	user, err := i.app.directory.UserByLogin(ctx, login)
	if err != nil {
		i.t.Fatal(err)
	}
	_, secret, err := i.app.directory.CreateToken(ctx, user.Principal(""), identity.TokenRequest{Description: "test", Via: "test"})
	if err != nil {
		i.t.Fatal(err)
	}
	return "token " + secret
}

// expireSSO makes every sign-in through an organization a day older.
func (i *house) expireSSO(t *testing.T) {
	t.Helper()
	if err := i.app.db.Conn(context.Background()).Exec("UPDATE sso_sessions SET expires = expires - 86400000000").Error; err != nil {
		t.Fatal(err)
	}
}

// signingCertificate returns the certificate in our metadata that requests are signed
// with.
func signingCertificate(t *testing.T, metadata []byte) *x509.Certificate {
	t.Helper()
	var entity struct {
		Role struct {
			Keys []struct {
				Use         string `xml:"use,attr"`
				Certificate string `xml:"KeyInfo>X509Data>X509Certificate"`
			} `xml:"KeyDescriptor"`
		} `xml:"SPSSODescriptor"`
	}
	if err := xml.Unmarshal(metadata, &entity); err != nil {
		t.Fatal(err)
	}
	for _, key := range entity.Role.Keys {
		if key.Use != "signing" {
			continue
		}
		der, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(key.Certificate), ""))
		if err != nil {
			t.Fatal(err)
		}
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return certificate
	}
	t.Fatalf("no certificate in %s", metadata)
	return nil
}
