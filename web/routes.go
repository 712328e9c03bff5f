package web

import "net/http"

// access says who may ask for a page. What they see on it is the API's decision.
type access int

const (
	signedIn access = iota // others are sent to sign in
	public
	static // whoever it is: the session is not even looked up
)

type route struct {
	method, pattern string
	access          access
	serve           func(*Console, http.ResponseWriter, *visit) error
}

// routes are the console's pages. A GET changes nothing: what does is a POST, and
// comes from a form of the console (see guard). Words that begin a path here must
// not be names of organizations: identity reserves them.
func routes() []route {
	return []route{
		{"GET", "/static/{file}", static, (*Console).serveAsset},
		{"GET", "/favicon.ico", static, (*Console).serveIcon},

		{"GET", "/setup", public, (*Console).setupForm},
		{"POST", "/setup", public, (*Console).setup},
		{"GET", "/signin", public, (*Console).signInForm},
		{"POST", "/signin", public, (*Console).signIn},
		{"POST", "/signout", public, (*Console).signOut},
		{"GET", "/signin/sso/{org}", public, (*Console).singleSignOn},
		{"GET", "/signin/sso/{org}/reauth", public, (*Console).singleSignOn},

		{"GET", "/cli-login", signedIn, (*Console).cliLoginForm},
		{"POST", "/cli-login", signedIn, (*Console).cliLogin},
		{"GET", "/welcome/cli", public, (*Console).welcome},

		{"GET", "/user/settings/tokens", signedIn, (*Console).tokens},
		{"POST", "/user/settings/tokens", signedIn, (*Console).createToken},
		{"GET", "/user/settings/tokens/revoke/{id}", signedIn, (*Console).revokeForm},
		{"POST", "/user/settings/tokens/revoke/{id}", signedIn, (*Console).revokeToken},
		{"GET", "/user/settings/sessions", signedIn, (*Console).sessions},
		{"POST", "/user/settings/sessions", signedIn, (*Console).endSession},
		{"GET", "/account/tokens", signedIn, redirect("/user/settings/tokens")},
		{"GET", "/user/settings", signedIn, redirect("/user/settings/tokens")},

		{"GET", "/{$}", signedIn, (*Console).home},
		{"GET", "/{org}", signedIn, (*Console).organization},
		{"GET", "/{org}/settings/audit", signedIn, (*Console).audit},
		{"GET", "/{org}/settings/members", signedIn, (*Console).members},
		{"GET", "/{org}/{project}", signedIn, (*Console).organization},
		{"GET", "/{org}/{project}/{stack}", signedIn, (*Console).stack},
		{"GET", "/{org}/{project}/{stack}/resources", signedIn, (*Console).resources},
		{"GET", "/{org}/{project}/{stack}/updates", signedIn, (*Console).history},
		{"GET", "/{org}/{project}/{stack}/updates/{version}", signedIn, (*Console).update},
		{"GET", "/{org}/{project}/{stack}/previews/{update}", signedIn, (*Console).preview},
		{"GET", "/{org}/{project}/{stack}/settings/options", signedIn, (*Console).stackOptions},
	}
}

func redirect(to string) func(*Console, http.ResponseWriter, *visit) error {
	return func(_ *Console, w http.ResponseWriter, v *visit) error {
		http.Redirect(w, v.r, to, http.StatusSeeOther)
		return nil
	}
}
