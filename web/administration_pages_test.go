package web_test

import (
	"bytes"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/httpapi"
)

func TestAdministrationPages(t *testing.T) {
	h, b := visitSite(t)
	for path, want := range map[string][]string{
		"/acme/settings/members": {"Alice Kealoha", "<code>ben</code>", "from single sign-on", "dora@example.com", "waits for you", "<code>evelyn</code>", "expired", "!gone@example.com",
			`action="/acme/settings/members/invite/i-1"`, "Add somebody who has an account", `aria-current="page">Members`, "/acme/settings/teams", "/acme/settings/general"},
		"/island-labs/settings/members":         {"Cleo", "!Invite people", "!Remove", "!<select", "!Audit log", "!Settings"},
		"/acme/settings/teams":                  {"Crew", "mirrored", "New team", "/acme/settings/teams/team/platform"},
		"/island-labs/settings/teams":           {"There is no team yet", "!New team"},
		"/acme/settings/teams/team/crew":        {`<option value="77">acme-inc/sre</option>`, "Make member", "Make administrator", "Add to team", "Delete team", "Single sign-on of acme"},
		"/acme/settings/teams/team/platform":    {"a team of the GitHub organization", "4711", "acme/platform", "!Add to team", "!Make administrator"},
		"/acme/settings/teams/delete/crew":      {"Delete team Crew?", "2 members"},
		"/acme/settings/general":                {`value="101" checked`, "single sign-on", "Rename", `aria-current="page">General`},
		"/acme/settings/general/rename":         {"Type the present name, <code>acme</code>"},
		"/acme/settings/general/delete":         {"Type <code>acme</code>", "Until a site administrator purges"},
		"/acme/settings/members/remove/ben":     {"Remove ben from acme?"},
		"/acme/settings/saml":                   {"https://app.example.test/login/acme/sso/saml/acs", `data-copy="acs"`, "https://idp.example.com/saml/sso", "ended", "20 days left", "700 days left", "The certificate CN=old has ended.", `value="memberOf"`, `action="/signin/test"`, `value="saml:o-1"`, "saml_audience", "Enter our entity ID", "192.0.2.44", "the audience is https://other.example"},
		"/acme/settings/saml/remove":            {"Type <code>acme</code>"},
		"/acme/settings/provisioning":           {"https://api.example.test/scim/v2/acme", "12 minutes ago", "Replace it", "Revoke"},
		"/acme/settings/provisioning/revoke":    {"Revoke token"},
		"/new/organization":                     {"Make organization"},
		"/site":                                 {"1 connector not well", "no mail server", "2 mails waiting", "passwords on"},
		"/site/users":                           {"Alice Kealoha", "site administrator", "disabled", "belongs to acme", "not confirmed", "Cleo &lt;i&gt;", "after=next&#43;user"},
		"/site/users/ben":                       {"by the provisioning of its organization", "Enable", "!Disable</button>"},
		"/site/users/alice":                     {"Take away", "You are signed out everywhere"},
		"/site/users/ben/delete":                {"Type <code>ben</code>"},
		"/site/organizations":                   {"GitHub island", "Island Labs", "New organization", "!Purge"},
		"/site/organizations?show=deleted":      {"Old Co", "Restore", `href="/site/organizations/o-9/purge"`},
		"/site/organizations/o-9/purge":         {"Type <code>old-co</code>"},
		"/site/connectors":                      {"http://localhost:3000/signin/with/okta/callback", "The discovery document cannot be read: status 503.", "answers", `name="connector" value="okta"`},
		"/site/sign-ins":                        {"oidc_audience", "Check client_id", "<strong>Refused</strong>", "something_new", "after=older%2Bone", "ben"},
		"/site/mail":                            {"https://app.example.test/invite?code=secret", `data-copy="mail-m-1"`, "not delivered", "The server says 550.", "smtp_address"},
		"/acme/settings/members?done=canceled":  {"its link no longer works"},
		"/acme/settings/members?done=%3Cb%3Ehi": {"!<b>hi"},
	} {
		t.Run(path, func(t *testing.T) { wants(t, b.get(path), http.StatusOK, want...) })
	}
	for _, call := range h.gate.seen() {
		if !strings.HasPrefix(call, "GET ") {
			t.Errorf("a page made the call %s", call)
		}
	}
}

// Each form makes one call, and leads on to a page that says what has happened.
func TestAdministrationForms(t *testing.T) {
	h, b := visitSite(t)
	h.gate.set("POST /api/orgs", object{"githubLogin": "new-co"})
	h.gate.set("POST /api/orgs/acme/rename", object{"githubLogin": "acme2"})
	org, site := "/api/orgs/acme", "/api/site"
	for _, c := range []struct {
		path string
		form string
		call string
		to   string
	}{
		{"/new/organization", "login=+new-co&name=New+Co", `POST /api/orgs {"githubLogin":"new-co","name":"New Co"}`, "/new-co"},
		{"/acme/settings/members", "login=+cleo+&role=admin", `POST ` + org + `/members/cleo {"role":"admin"}`, "/acme/settings/members?done=added"},
		{"/acme/settings/members/role", "login=ben&role=admin", `PATCH ` + org + `/members/ben {"role":"admin"}`, "/acme/settings/members?done=role"},
		{"/acme/settings/members/remove/ben", "", `DELETE ` + org + `/members/ben`, "/acme/settings/members?done=removed"},
		{"/acme/settings/members/remove/alice", "", `DELETE ` + org + `/members/alice`, "/"},
		{"/acme/settings/members/invite/i-1", "do=cancel", `DELETE ` + org + `/invites/i-1`, "/acme/settings/members?done=canceled"},
		{"/acme/settings/members/invite/i-2", "do=approve", `POST ` + org + `/invites/i-2/approve`, "/acme/settings/members?done=approved"},
		{"/acme/settings/teams", "name=ops&displayName=Ops&description=On+call", `POST ` + org + `/teams/pulumi {"description":"On call","displayName":"Ops","name":"ops"}`, "/acme/settings/teams/team/ops?done=team"},
		{"/acme/settings/teams/team/crew", "name=staff&displayName=Staff&description=", `PATCH ` + org + `/teams/crew {"newDescription":"","newDisplayName":"Staff","newName":"staff"}`, "/acme/settings/teams/team/staff?done=saved"},
		{"/acme/settings/teams/team/crew", "name=crew&displayName=C&description=", `PATCH ` + org + `/teams/crew {"newDescription":"","newDisplayName":"C"}`, "/acme/settings/teams/team/crew?done=saved"},
		{"/acme/settings/teams/members/crew", "login=ben&do=promote", `PATCH ` + org + `/teams/crew {"member":"ben","memberAction":"promote"}`, "/acme/settings/teams/team/crew?done=role"},
		{"/acme/settings/teams/members/crew", "login=ben&do=remove", `PATCH ` + org + `/teams/crew {"member":"ben","memberAction":"remove"}`, "/acme/settings/teams/team/crew?done=removed"},
		{"/acme/settings/teams/groups/crew", "connector=okta&group=g-1&path=staff&do=add", `PATCH ` + org + `/teams/crew {"addGroup":{"connector":"okta","id":"g-1","path":"staff"}}`, "/acme/settings/teams/team/crew?done=added"},
		{"/acme/settings/teams/groups/crew", "connector=okta&group=g-1&path=&do=remove", `PATCH ` + org + `/teams/crew {"removeGroup":{"connector":"okta","id":"g-1","path":""}}`, "/acme/settings/teams/team/crew?done=removed"},
		{"/acme/settings/teams/delete/crew", "", `DELETE ` + org + `/teams/crew`, "/acme/settings/teams?done=team-gone"},
		{"/acme/settings/general", "name=Acme+Inc&permission=0", `PATCH ` + org + ` {"setDefaultStackPermission":0,"setName":"Acme Inc"}`, "/acme/settings/general?done=saved"},
		{"/acme/settings/general/backing", "backing=github+acme-inc", `PUT ` + org + `/backing {"connector":"github","group":"acme-inc"}`, "/acme/settings/general?done=backing"},
		{"/acme/settings/general/backing", "backing=", `PUT ` + org + `/backing {"connector":"","group":""}`, "/acme/settings/general?done=backing"},
		{"/acme/settings/general/rename", "new=acme2&confirm=acme", `POST ` + org + `/rename {"newName":"acme2"}`, "/acme2/settings/general?done=organization"},
		{"/acme/settings/general/delete", "confirm=acme", `DELETE ` + org, "/"},
		{"/acme/settings/saml/prepare", "", `PATCH ` + org + `/saml {}`, "/acme/settings/saml?done=prepared"},
		{"/acme/settings/saml/provider", "url=https://idp.example.com/m&text=", `PATCH ` + org + `/saml {"descriptorUrl":"https://idp.example.com/m"}`, "/acme/settings/saml?done=provider"},
		{"/acme/settings/saml/provider", "text=%3Cx/%3E", `PATCH ` + org + `/saml {"newIdpSsoDescriptor":"<x/>"}`, "/acme/settings/saml?done=provider"},
		{"/acme/settings/saml/options", "attribute-login=uid&format=&domains=a.example%0D%0Ab.example&sign-up=yes",
			`PATCH ` + org + `/saml {"allowEncrypted":false,"allowIdpInitiated":false,"attributes":{"login":"uid","name":"","firstName":"","lastName":"","email":"","groups":""},"domains":["a.example","b.example"],"nameIdFormat":"","signUp":true}`, "/acme/settings/saml?done=saved"},
		{"/acme/settings/saml/require", "required=yes", `PATCH ` + org + ` {"setSsoRequired":true}`, "/acme/settings/saml?done=required"},
		{"/acme/settings/saml/require", "required=no", `PATCH ` + org + ` {"setSsoRequired":false}`, "/acme/settings/saml?done=optional"},
		{"/acme/settings/saml/administrator", "login=alice", `POST ` + org + `/saml/admins/alice`, "/acme/settings/saml?done=exempt"},
		{"/acme/settings/saml/remove", "confirm=acme", `DELETE ` + org + `/saml`, "/acme/settings/saml?done=saml-gone"},
		{"/acme/settings/provisioning/revoke", "", `DELETE ` + org + `/scim`, "/acme/settings/provisioning?done=scim-gone"},
		{"/site/users/ben", "do=enable", `PATCH ` + site + `/users/ben {"disabled":false}`, "/site/users/ben?done=enabled"},
		{"/site/users/cleo", "do=disable", `PATCH ` + site + `/users/cleo {"disabled":true}`, "/site/users/cleo?done=disabled"},
		{"/site/users/cleo", "do=promote", `PATCH ` + site + `/users/cleo {"siteAdmin":true}`, "/site/users/cleo?done=site-admin"},
		{"/site/users/alice", "do=demote", `PATCH ` + site + `/users/alice {"siteAdmin":false}`, "/site/users/alice?done=not-site-admin"},
		{"/site/users/cleo", "do=end-sessions", `PATCH ` + site + `/users/cleo {"endSessions":true}`, "/site/users/cleo?done=sessions"},
		{"/site/users/ben/delete", "confirm=ben", `DELETE ` + site + `/users/ben`, "/site/users?done=user-gone"},
		{"/site/organizations/o-9/restore", "", `POST ` + site + `/organizations/o-9/restore`, "/site/organizations?done=restored"},
		{"/site/organizations/o-9/purge", "confirm=old-co", `POST ` + site + `/organizations/o-9/purge`, "/site/organizations?show=deleted&done=purged"},
		{"/site/mail/m-1", "sure=yes", `DELETE ` + site + `/mail/m-1`, "/site/mail?done=mail-gone"},
	} {
		t.Run(c.path+" "+c.form, func(t *testing.T) {
			method, rest, _ := strings.Cut(c.call, " ")
			path, _, _ := strings.Cut(rest, " ")
			if key := method + " " + path; h.gate.lacks(key) {
				h.gate.set(key, object{})
			}
			before := len(h.gate.changes())
			form, err := url.ParseQuery(c.form)
			if err != nil {
				t.Fatal(err)
			}
			res := b.post(c.path, form)
			if to := res.Header.Get("Location"); res.StatusCode != http.StatusSeeOther || to != c.to {
				t.Errorf("status %d to %q, want %q: %s", res.StatusCode, to, c.to, text(t, res))
			}
			if made := h.gate.changes()[before:]; !slices.Equal(made, []string{c.call}) {
				t.Errorf("made the calls %q, want %q", made, c.call)
			}
			if _, done, said := strings.Cut(c.to, "done="); said {
				if page := text(t, b.get("/acme/settings/members?done="+done)); !strings.Contains(page, `class="note ok" role="status"`) {
					t.Errorf("nothing is said of %q", done)
				}
			}
		})
	}
}

func (g *gate) lacks(key string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, ok := g.answers[key]
	return !ok
}

// changes returns the calls that are no GET, with their bodies.
func (g *gate) changes() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.bodies)
}

// What is not confirmed, or cannot be meant, is not sent to the API.
func TestNothingWithoutConfirmation(t *testing.T) {
	h, b := visitSite(t)
	for path, forms := range map[string][]string{
		"/acme/settings/general/rename":     {"new=acme2", "new=acme2&confirm=Acme", "new=acme2&confirm=acme2"},
		"/acme/settings/general/delete":     {"", "confirm=", "confirm=ACME", "confirm=Acme"},
		"/acme/settings/saml/remove":        {"", "confirm=other"},
		"/site/users/ben/delete":            {"", "confirm=alice", "confirm=Ben"},
		"/site/organizations/o-9/purge":     {"", "confirm=Old+Co", "confirm=o-9"},
		"/site/mail/m-1":                    {"", "sure=no"},
		"/site/users/ben":                   {"", "do=purge"},
		"/acme/settings/members/invite/i-1": {"", "do=accept"},
		"/acme/settings/members/invite":     {"", "emails=+%0A+,&role=member"},
		"/acme/settings/members":            {"", "login=a%2Fb&role=admin", "login=..&role=admin"},
		"/acme/settings/saml/provider":      {"", "url=https://a.example&text=%3Cx/%3E"},
		"/acme/settings/saml/administrator": {"", "login=../x"},
		"/acme/settings/teams/groups/crew":  {"connector=okta&do=add"},
		"/acme/settings/general":            {"name=x", "name=x&permission=most"},
	} {
		for _, encoded := range forms {
			form, err := url.ParseQuery(encoded)
			if err != nil {
				t.Fatal(err)
			}
			wants(t, b.post(path, form), http.StatusBadRequest)
		}
	}
	if made := h.gate.changes(); len(made) != 0 {
		t.Errorf("made the calls %q", made)
	}
}

func TestInvitingMembers(t *testing.T) {
	h, b := visitSite(t)
	batch := "POST /api/orgs/acme/invites/batch"
	h.gate.set(batch, object{"sentInvites": []object{{"email": "a@example.com", "acceptInviteUrl": "https://app.example.test/invite?code=one"}},
		"failedInvites": []object{{"email": "b@<b>", "error": "the e-mail address must look like name@example.com"}}})
	res := b.post("/acme/settings/members/invite", url.Values{"emails": {"a@example.com\r\n b@<b>, \n"}, "role": {"admin"}})
	wants(t, res, http.StatusOK, "1 invite sent, 1 not", "https://app.example.test/invite?code=one", "b@&lt;b&gt;", "The e-mail address must look like", "!b@<b>", ">b@&lt;b&gt; </textarea>")
	if made := h.gate.changes(); !slices.Equal(made, []string{batch + ` {"invites":[{"email":"a@example.com","role":"admin"},{"email":"b@<b>","role":"admin"}]}`}) {
		t.Errorf("made the calls %q", made)
	}
	h.gate.set(batch, errs.Errorf(errs.Exhausted, "too many open invites, cancel some"))
	wants(t, b.post("/acme/settings/members/invite", url.Values{"emails": {"keep@example.com"}, "role": {"admin"}}), http.StatusTooManyRequests, "Too many open invites, cancel some.", "keep@example.com</textarea>")

	h.gate.set("POST /api/orgs/acme/invites/link", object{"role": "member", "acceptInviteUrl": "https://app.example.test/invite?code=two"})
	wants(t, b.post("/acme/settings/members/link", url.Values{"role": {"member"}}), http.StatusOK, "The invite link", "code=two", `data-copy="link"`)
	h.gate.set("POST /api/orgs/acme/invites/i-1/resend", object{"email": "dora@example.com", "role": "admin", "acceptInviteUrl": "https://app.example.test/invite?code=three"})
	wants(t, b.post("/acme/settings/members/invite/i-1", url.Values{"do": {"renew"}}), http.StatusOK, "The new link for dora@example.com", "code=three", "an administrator")
	wants(t, b.get("/acme/settings/members"), http.StatusOK, "!code=three", "!code=two")
}

// What was typed is there again when the API refuses it, with what it says.
func TestRefusedForms(t *testing.T) {
	h, b := visitSite(t)
	refuse := func(call string, kind errs.Kind, message string) { h.gate.set(call, errs.Errorf(kind, "%s", message)) }
	refuse("PATCH /api/orgs/acme/members/alice", errs.Conflict, "the last administrator stays one")
	wants(t, b.post("/acme/settings/members/role", url.Values{"login": {"alice"}, "role": {"member"}}), http.StatusConflict, "The last administrator stays one.", `role="alert"`)
	refuse("PATCH /api/orgs/acme/members/ben", errs.Forbidden, "org_member:update is needed: ask an administrator of acme")
	wants(t, b.post("/acme/settings/members/role", url.Values{"login": {"ben"}, "role": {"member"}}), http.StatusForbidden, "Not allowed", "Org_member:update is needed")
	wants(t, b.post("/acme/settings/members", url.Values{"login": {"nobody"}, "role": {"admin"}}), http.StatusNotFound, "Nobody here has the login nobody.", `value="nobody"`, `<option value="admin" selected>`)
	refuse("POST /api/orgs/acme/teams/pulumi", errs.Conflict, "there is a team crew already")
	wants(t, b.post("/acme/settings/teams", url.Values{"name": {"crew"}, "description": {`"><script>`}}), http.StatusConflict, "There is a team crew already.", `value="crew"`, "!<script>", "&lt;script&gt;")
	refuse("PATCH /api/orgs/acme/saml", errs.Invalid, "the certificate of the descriptor is not base64")
	wants(t, b.post("/acme/settings/saml/provider", url.Values{"text": {"<md>&"}}), http.StatusBadRequest, "The certificate of the descriptor is not base64.", "&lt;md&gt;&amp;</textarea>")
	wants(t, b.post("/acme/settings/saml/options", url.Values{"attribute-name": {"cn"}, "domains": {"x y"}, "encrypted": {"yes"}}), http.StatusBadRequest, `value="cn"`, `name="encrypted" value="yes" checked`, "!value=\"memberOf\"")
	refuse("PATCH /api/orgs/acme", errs.Unprocessable, "single sign-on needs SAML behind the organization")
	wants(t, b.post("/acme/settings/saml/require", url.Values{"required": {"yes"}}), http.StatusUnprocessableEntity, "Single sign-on needs SAML behind the organization.")
	wants(t, b.post("/acme/settings/general", url.Values{"name": {"kept"}, "permission": {"103"}}), http.StatusUnprocessableEntity, `value="kept"`, `value="103" checked`)
	refuse("POST /api/orgs", errs.Invalid, `"api" is a reserved word`)
	wants(t, b.post("/new/organization", url.Values{"login": {"api"}, "name": {"The API"}}), http.StatusBadRequest, `value="api"`, `value="The API"`, "is a reserved word")
	refuse("PATCH /api/site/users/alice", errs.Conflict, "the last site administrator stays one")
	wants(t, b.post("/site/users/alice", url.Values{"do": {"demote"}}), http.StatusConflict, "The last site administrator stays one.")
	refuse("POST /api/site/organizations/o-9/restore", errs.Conflict, "its group is behind another organization")
	wants(t, b.post("/site/organizations/o-9/restore", url.Values{}), http.StatusConflict, "Its group is behind another organization.", "Old Co")
}

// multipartForm encodes fields as a form with a file in it does.
func multipartForm(t *testing.T, fields ...[2]string) (kind string, body *bytes.Buffer) {
	t.Helper()
	body = new(bytes.Buffer)
	w := multipart.NewWriter(body)
	for _, f := range fields {
		create := w.CreateFormField
		if f[0] == "file" {
			create = func(name string) (io.Writer, error) { return w.CreateFormFile(name, "metadata.xml") }
		}
		part, err := create(f[0])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(part, f[1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return w.FormDataContentType(), body
}

func TestMetadataUpload(t *testing.T) {
	h, b := visitSite(t)
	call := "PATCH /api/orgs/acme/saml"
	h.gate.set(call, object{})
	for name, c := range map[string]struct {
		fields [][2]string
		status int
		body   string
	}{
		"a file":        {[][2]string{{"url", ""}, {"file", " <md/>\n"}, {"text", ""}}, http.StatusSeeOther, `{"newIdpSsoDescriptor":"<md/>"}`},
		"text":          {[][2]string{{"url", ""}, {"file", ""}, {"text", "<md/>"}}, http.StatusSeeOther, `{"newIdpSsoDescriptor":"<md/>"}`},
		"an address":    {[][2]string{{"url", "https://idp.example.com"}}, http.StatusSeeOther, `{"descriptorUrl":"https://idp.example.com"}`},
		"the largest":   {[][2]string{{"file", strings.Repeat("x", 1<<20)}}, http.StatusSeeOther, `{"newIdpSsoDescriptor":"` + strings.Repeat("x", 1<<20) + `"}`},
		"nothing":       {[][2]string{{"url", " "}, {"file", ""}}, http.StatusBadRequest, ""},
		"two ways":      {[][2]string{{"text", "<md/>"}, {"file", "<md/>"}}, http.StatusBadRequest, ""},
		"two files":     {[][2]string{{"file", "<md/>"}, {"file", "<md/>"}}, http.StatusBadRequest, ""},
		"no text":       {[][2]string{{"file", "\xff\xfe<\x00"}}, http.StatusBadRequest, ""},
		"a large file":  {[][2]string{{"file", strings.Repeat("x", 1<<20+1)}}, http.StatusRequestEntityTooLarge, ""},
		"a larger form": {[][2]string{{"other", strings.Repeat("x", 3<<20)}}, http.StatusRequestEntityTooLarge, ""},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(h.gate.changes())
			kind, body := multipartForm(t, c.fields...)
			r := httptest.NewRequest(http.MethodPost, plainHTTP+"/acme/settings/saml/provider", body)
			r = r.WithContext(httpapi.WithRequest(t.Context(), httpapi.Request{ID: "request-1"}))
			r.Header.Set("Content-Type", kind)
			r.Header.Set("Origin", plainHTTP)
			r.AddCookie(&http.Cookie{Name: "ipuka", Value: b.cookies["ipuka"]})
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != c.status {
				t.Errorf("status %d, want %d: %s", w.Code, c.status, w.Body)
			}
			var want []string
			if c.body != "" {
				want = []string{call + " " + c.body}
			}
			if made := h.gate.changes()[before:]; !slices.Equal(made, want) {
				t.Errorf("made %d calls, want %d", len(made), len(want))
			}
		})
	}
}

func TestProvisioningToken(t *testing.T) {
	h, b := visitSite(t)
	h.gate.set("POST /api/orgs/acme/scim", object{"tokenValue": "secret-token-value"})
	wants(t, b.post("/acme/settings/provisioning", url.Values{}), http.StatusConflict, "There is a token already", "!secret-token-value")
	if made := h.gate.changes(); len(made) != 0 {
		t.Errorf("made the calls %q", made)
	}
	wants(t, b.post("/acme/settings/provisioning", url.Values{"replace": {"yes"}}), http.StatusOK, "secret-token-value", "shown this once", `data-copy="token"`)
	wants(t, b.get("/acme/settings/provisioning"), http.StatusOK, "!secret-token-value")
	if strings.Contains(h.log.String(), "secret-token-value") {
		t.Error("the token is in the log")
	}
	h.gate.set("/api/orgs/acme/scim", object{"exists": false})
	wants(t, b.get("/acme/settings/provisioning"), http.StatusOK, "There is none", "Make a token", "!Revoke")
	wants(t, b.post("/acme/settings/provisioning", url.Values{}), http.StatusOK, "secret-token-value")
}

// The pages of the installation are not there for those who do not administer it.
func TestSiteIsForItsAdministrators(t *testing.T) {
	h, _ := visitSite(t)
	if _, err := h.directory.CreateUser(t.Context(), identity.Principal{}, identity.NewUser{Login: "ben"}); err != nil {
		t.Fatal(err)
	}
	b := h.browser(t)
	wants(t, b.post("/signin", url.Values{"login": {"ben"}, "password": {password}}), http.StatusSeeOther)
	before := len(h.gate.seen())
	for _, path := range []string{"/site", "/site/users", "/site/users/alice", "/site/users/alice/delete", "/site/organizations", "/site/organizations/o-9/purge", "/site/connectors", "/site/sign-ins", "/site/mail"} {
		wants(t, b.get(path), http.StatusNotFound, "Nothing here", `!href="/site"`)
	}
	for path, form := range map[string]string{"/site/users/alice": "do=disable", "/site/users/alice/delete": "confirm=alice", "/site/organizations/o-9/restore": "", "/site/organizations/o-9/purge": "confirm=old-co", "/site/mail/m-1": "sure=yes"} {
		fields, err := url.ParseQuery(form)
		if err != nil {
			t.Fatal(err)
		}
		wants(t, b.post(path, fields), http.StatusNotFound, "Nothing here")
	}
	for _, call := range h.gate.seen()[before:] {
		if call != "GET /api/user" {
			t.Errorf("a stranger to the administration made the call %s", call)
		}
	}
	wants(t, b.get("/user/settings/profile"), http.StatusOK, `!href="/site"`, "!New organization")
	wants(t, h.signIn(t).get("/user/settings/profile"), http.StatusOK, `href="/site"`, `href="/new/organization"`)
}

// What people and providers call things is shown as text.
func TestHostileNames(t *testing.T) {
	h, b := visitSite(t)
	evil := `"><script>alert(1)</script>`
	person := object{"githubLogin": evil, "name": evil, "email": evil}
	h.gate.set("/api/orgs/acme/metadata", object{"id": evil, "githubLogin": "acme", "name": evil, "kind": "github", "backingOrgLogin": evil, "userRole": "admin"})
	h.gate.set("/api/orgs/acme/members", object{"members": []object{{"role": evil, "source": evil, "user": person}}, "continuationToken": evil})
	h.gate.set("/api/orgs/acme/invites", object{"invites": []object{{"id": evil, "email": evil, "role": evil, "status": "approval", "acceptedBy": evil, "sentBy": person}}, "continuationToken": evil})
	team := object{"name": evil, "displayName": evil, "description": evil, "source": evil, "groups": []object{{"connector": evil, "id": evil, "path": evil}},
		"members": []object{{"githubLogin": evil, "name": evil, "role": evil}}}
	h.gate.set("/api/orgs/acme/teams", object{"teams": []object{team}})
	h.gate.set("/api/orgs/acme/teams/crew", team)
	h.gate.set("/api/user/vcs/organizations", object{"organizations": []object{{"githubLogin": evil, "connector": evil, "admin": true}}})
	h.gate.set("/api/orgs/acme/saml", object{"idpSsoDescriptor": evil, "entityId": evil, "ssoUrl": evil, "descriptorUrl": evil, "warnings": []string{evil}, "domains": []string{evil}, "connector": evil,
		"certificates": []object{{"subject": evil, "fingerprint": evil}}, "attributes": object{"login": evil}, "serviceProvider": object{"entityId": evil, "acs": evil, "metadataUrl": "javascript:alert(1)", "prepared": true}})
	h.gate.set("/api/orgs/acme/saml/health", object{"problem": evil})
	event := signInEvent(evil, evil, evil)
	event["object"], event["sourceIP"], event["userAgent"], event["requestID"] = evil, evil, evil, evil
	h.gate.set("/api/orgs/acme/sign-ins", object{"signIns": []object{event}})
	h.gate.set("/api/site/sign-ins", object{"signIns": []object{event}, "continuationToken": evil})
	h.gate.set("/api/orgs/acme/scim", object{"exists": true, "by": evil})
	h.gate.set("/api/site/users", object{"users": []object{{"githubLogin": evil, "name": evil, "email": evil, "disabled": true, "disabledBy": "connector:" + evil, "managedBy": evil}}, "continuationToken": evil})
	h.gate.set("/api/site/organizations", object{"organizations": []object{{"id": evil, "githubLogin": evil, "name": evil, "kind": "gitlab", "backing": evil}}})
	h.gate.set("/api/site/connectors", object{"connectors": []object{{"name": evil, "kind": evil, "title": evil, "issuer": evil, "problem": evil}}})
	h.gate.set("/api/site/mail", object{"configured": true, "lastFailure": 1, "problem": evil, "mails": []object{{"id": evil, "kind": evil, "to": evil, "subject": evil, "link": "javascript:" + evil, "error": evil}}})
	for _, path := range []string{"/acme/settings/members", "/acme/settings/teams", "/acme/settings/teams/team/crew", "/acme/settings/teams/delete/crew", "/acme/settings/general", "/acme/settings/general/delete", "/acme/settings/saml",
		"/acme/settings/provisioning", "/site", "/site/users", "/site/users?q=" + url.QueryEscape(evil), "/site/organizations", "/site/connectors", "/site/sign-ins", "/site/mail"} {
		t.Run(path, func(t *testing.T) {
			wants(t, b.get(path), http.StatusOK, "!<script>alert", `!href="javascript:`, `!"><script`)
		})
	}
}

// Who has to sign in through an organization's single sign-on is led there.
func TestSingleSignOnIsAskedFor(t *testing.T) {
	h, b := visitSite(t)
	asks := func(organization, reason string) error {
		return httpapi.Problems(errs.Errorf(errs.Unauthenticated, "your single sign-on for organization %s has run out", organization),
			httpapi.Problem{Resource: "organization", Attribute: organization, ErrorType: reason})
	}
	for _, reason := range []string{"saml_reauth_required", "saml_login_required"} {
		h.gate.set("/api/orgs/acme/teams", asks("acme", reason))
		res := b.get("/acme/settings/teams")
		if to := res.Header.Get("Location"); res.StatusCode != http.StatusSeeOther || to != "/signin/sso/acme/reauth?returnTo=%2Facme%2Fsettings%2Fteams" {
			t.Errorf("%s: status %d to %q", reason, res.StatusCode, to)
		}
	}
	h.gate.set("POST /api/orgs/acme/teams/pulumi", asks("acme", "saml_reauth_required"))
	wants(t, b.post("/acme/settings/teams", url.Values{"name": {"x"}}), http.StatusUnauthorized, "Single sign-on", "has run out", `href="/signin/sso/acme/reauth"`, "Sign in through acme")

	for name, err := range map[string]error{
		"another reason":      asks("acme", "token_expired"),
		"no name":             asks("//evil.example", "saml_reauth_required"),
		"no reason":           errs.Errorf(errs.Unauthenticated, "you are not signed in"),
		"not unauthenticated": httpapi.Problems(errs.Errorf(errs.Forbidden, "no"), httpapi.Problem{Attribute: "acme", ErrorType: "saml_reauth_required"}),
	} {
		h.gate.set("/api/orgs/acme/teams", err)
		if res := b.get("/acme/settings/teams"); res.StatusCode == http.StatusSeeOther || strings.Contains(text(t, res), "reauth") {
			t.Errorf("%s leads to single sign-on", name)
		}
	}
}
