package web_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/web"
)

const acs = "/login/acme/sso/saml/acs"

func TestSingleSignOn(t *testing.T) {
	h := newHouse(t, overTLS)
	h.settle(t)
	saml := h.singleSignOn(t, "acme")
	h.backed(t, "acme")
	b := h.browser(t)
	wants(t, b.get("/signin/sso/"), http.StatusOK, `name="organization" value=""`)
	for _, path := range []string{"/signin/sso?organization=acme&returnTo=/acme/website", "/signin/sso/acme?returnTo=/acme/website", "/login/acme/sso?returnTo=/acme/website"} {
		res := b.get(path)
		body := wants(t, res, http.StatusOK, "Going to Acme login", "idp.example", `<form method="post" action="https://idp.example/sso" id="handoff">`, `name="SAMLRequest" value="PHNhbWw`, "!><script>", "Continue</button>")
		if policy := res.Header.Get("Content-Security-Policy"); !strings.Contains(policy, "form-action https://idp.example;") || strings.Contains(policy, "unsafe") {
			t.Errorf("policy %q", policy)
		}
		f := saml.last(t)
		if f.Callback != "https://app.example.test"+acs || !strings.Contains(body, f.State) || f.Fresh {
			t.Errorf("%s: the flow is %+v", path, f)
		}
		res = b.posts(acs, url.Values{"RelayState": {f.State}, "who": {"ben"}})
		if res.StatusCode != http.StatusSeeOther || res.Header.Get("Location") != "/acme/website" {
			t.Fatalf("%s: status %d to %q: %s", path, res.StatusCode, res.Header.Get("Location"), text(t, res))
		}
		who, err := h.directory.AuthenticateSession(t.Context(), b.cookies["__Host-ipuka"])
		if err != nil || who.ManagedBy != saml.info.OrganizationID || who.Connector != saml.info.Name {
			t.Fatalf("%s: signed in as %+v, %v", path, who, err)
		}
	}
	sessions := h.sessionsOf(t, "ben")
	if len(sessions) != 1 {
		t.Errorf("%d sessions: the ones before go on", len(sessions))
	}
	wants(t, b.post("/signout", url.Values{}), http.StatusSeeOther)
	wants(t, b.get("/signin"), http.StatusOK, `name="organization" value="acme"`) // it is remembered

	// What came back to the wrong browser, or by itself.
	b.get("/signin/sso/acme")
	state := saml.last(t).State
	h.audit.refusals()
	refused(t, h, h.browser(t).posts(acs, url.Values{"RelayState": {state}, "who": {"ben"}}), http.StatusBadRequest, "flow_unknown")
	refused(t, h, h.browser(t).posts(acs, url.Values{"RelayState": {"https://evil.example"}, "who": {"ben"}}), http.StatusBadRequest, "flow_unknown")
	refused(t, h, b.posts(acs, url.Values{"RelayState": {state}, "error": {`"><script>provider`}}), http.StatusBadRequest, "provider_error")
	for _, login := range []string{"none", "island-labs", "..", "a b"} {
		wants(t, b.get("/signin/sso?"+url.Values{"organization": {login}}.Encode()), http.StatusNotFound, "No organization of this name has single sign-on here.")
	}
	// A provider of an organization answers at that organization's address only.
	for _, path := range []string{"/signin/with/" + saml.info.Name, "/signin/with/" + saml.info.Name + "/callback?who=ben&state=" + state} {
		wants(t, b.get(path), http.StatusNotFound)
	}
	wants(t, b.posts("/login/none/sso/saml/acs", url.Values{"RelayState": {state}}), http.StatusNotFound)
	wants(t, b.posts(acs, url.Values{"RelayState": {state}, "SAMLResponse": {"a", "b"}}), http.StatusBadRequest)
	wants(t, b.posts(acs, url.Values{"SAMLResponse": {strings.Repeat("A", 600<<10)}}), http.StatusRequestEntityTooLarge)
}

// A sign-in that began at the provider has no flow: whether that is allowed is the
// connector's to say, which sees it by the empty request.
func TestUnsolicitedAssertion(t *testing.T) {
	h := newHouse(t, overTLS)
	h.settle(t)
	saml := h.singleSignOn(t, "acme")
	h.backed(t, "acme")
	for _, relay := range []url.Values{{}, {"RelayState": {""}}, {"RelayState": {"cli"}}} {
		relay.Set("who", "ben")
		b := h.browser(t)
		if res := b.posts(acs, relay); res.StatusCode != http.StatusSeeOther || res.Header.Get("Location") != "/" {
			t.Errorf("%v: status %d to %q", relay, res.StatusCode, res.Header.Get("Location"))
		}
		if f := saml.ended[len(saml.ended)-1]; f.Request != "" {
			t.Errorf("%v: the connector is told of the request %q", relay, f.Request)
		}
	}
}

// The address that takes forms of other sites is the one, and takes nothing else.
func TestOnlyAssertionsComeFromElsewhere(t *testing.T) {
	h := newHouse(t, overTLS)
	h.settle(t)
	h.singleSignOn(t, "acme")
	paths := []string{"/login/acme", "/login/acme/sso", "/login/acme/sso/saml/acs/", "/login/acme/sso/saml/acs/x",
		"/login/acme/x/sso/saml/acs", "/login//sso/saml/acs", "/login/a%2fb/sso/saml/acs", "/login/acme%2fsso%2fsaml/../sso/saml/acs", "/login/../login/acme/sso/saml/acs", "/login/acme/sso/saml/%61cs", "//login/acme/sso/saml/acs", "/Login/acme/sso/saml/acs"}
	for _, r := range web.Routes() {
		if path := fill.Replace(r.Pattern); r.Method == http.MethodPost && path != acs {
			paths = append(paths, path)
		}
	}
	for _, path := range paths {
		res := h.browser(t).do(http.MethodPost, path, url.Values{"login": {"alice"}, "password": {password}}, fromIdP)
		if res.StatusCode != http.StatusForbidden || len(res.Cookies()) != 0 {
			t.Errorf("%s: status %d, cookies %v", path, res.StatusCode, res.Cookies())
		}
	}
	res := h.browser(t).do(http.MethodPost, acs, url.Values{"who": {"ben"}}, http.Header{"Content-Type": {"text/plain"}, "Origin": {"https://idp.example"}})
	wants(t, res, http.StatusUnsupportedMediaType)
	if res := h.browser(t).get(acs); res.StatusCode == http.StatusOK {
		t.Errorf("GET: status %d", res.StatusCode)
	}
}

// Browsers leave the session's cookie at home when another site posts: the flow stands
// for it while that session goes on.
func TestPurposesByAssertion(t *testing.T) {
	h := newHouse(t, overTLS)
	h.settle(t)
	saml := h.singleSignOn(t, "acme")
	h.backed(t, "acme")
	b := h.signIn(t)
	begin := func(path string) url.Values {
		t.Helper()
		wants(t, b.post(path, url.Values{"connector": {saml.info.Name}, "returnTo": {"/welcome/acme/sso"}}), http.StatusOK, "Going to Acme login")
		return url.Values{"RelayState": {saml.last(t).State}, "who": {"alice-at-idp"}}
	}
	wants(t, b.posts(acs, begin("/signin/test")), http.StatusOK, "Test of Acme login", "id-of-alice-at-idp", "Nobody has this identity yet")
	wants(t, b.get("/signin/sso/acme/reauth"), http.StatusOK, "has run out", "Link alice to acme", "/user/settings/identities/link")
	res := b.posts(acs, begin("/user/settings/identities/link"))
	if res.StatusCode != http.StatusSeeOther || res.Header.Get("Location") != "/welcome/acme/sso" {
		t.Fatalf("status %d to %q: %s", res.StatusCode, res.Header.Get("Location"), text(t, res))
	}
	wants(t, b.get("/user/settings/identities"), http.StatusOK, "Single sign-on of acme", "alice-at-idp")
	wants(t, b.get("/signin/sso/acme/reauth"), http.StatusOK, "has run out", `href="/signin/sso/acme?returnTo=%2Fwelcome%2Facme%2Fsso"`, "!Link alice")
	wants(t, b.get("/welcome/acme/sso"), http.StatusOK, "run the command once more", "<strong>acme</strong>")
	old := b.cookies["__Host-ipuka"]
	wants(t, b.posts(acs, begin("/signin/again/with")), http.StatusSeeOther)
	if _, err := h.directory.AuthenticateSession(t.Context(), old); err == nil {
		t.Error("the old session goes on")
	}
	form := begin("/signin/test")
	b.post("/signout", url.Values{})
	h.audit.refusals()
	refused(t, h, b.posts(acs, form), http.StatusBadRequest, "flow_session")
}

func TestSSOPages(t *testing.T) {
	h := newHouse(t, overTLS)
	h.settle(t)
	h.singleSignOn(t, "acme")
	b := h.browser(t)
	wants(t, b.get("/signin/sso/acme/reauth"), http.StatusOK, "Your single sign-on for <strong>acme</strong> has run out", `href="/signin/sso/acme?returnTo=%2Fwelcome%2Facme%2Fsso"`)
	wants(t, b.get("/signin/sso/acme/reauth?returnTo=/acme/website"), http.StatusOK, `returnTo=%2Facme%2Fwebsite`)
	wants(t, b.get("/signin/sso/none/reauth"), http.StatusNotFound, "No organization of this name has single sign-on here.")
	res := b.get("/login/acme/sso/saml/metadata")
	if wants(t, res, http.StatusOK, "<EntityDescriptor/>"); res.Header.Get("Content-Type") != "application/samlmetadata+xml" {
		t.Errorf("headers %v", res.Header)
	}
	wants(t, b.get("/login/none/sso/saml/metadata"), http.StatusNotFound)
}

// sessionsOf returns the sessions of a user that go on.
func (h *house) sessionsOf(t *testing.T, login string) []identity.Session {
	t.Helper()
	user, err := h.directory.UserByLogin(t.Context(), login)
	if err != nil {
		t.Fatal(err)
	}
	sessions, err := h.directory.Sessions(t.Context(), user.ID)
	if err != nil {
		t.Fatal(err)
	}
	return sessions
}
