package web

import (
	"net/http"
	"slices"
)

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

// routes are the console's pages, each declared with the pages of its kind. A GET
// changes nothing but for the end of a sign-in at a provider, which only the browser
// that began it can bring about (see flow). Everything else that changes something is
// a POST, and comes from a form of the console (see guard). Words that begin a path
// here must not be names of organizations: identity reserves them.
func routes() []route {
	return slices.Concat(signInRoutes(), accountRoutes(), organizationRoutes(), siteRoutes(), stackRoutes())
}

func stackRoutes() []route {
	return []route{
		{"GET", "/static/{file}", static, (*Console).serveAsset},
		{"GET", "/favicon.ico", static, (*Console).serveIcon},

		{"GET", "/setup", public, (*Console).setupForm},
		{"POST", "/setup", public, (*Console).setup},

		{"GET", "/cli-login", signedIn, (*Console).cliLoginForm},
		{"POST", "/cli-login", signedIn, (*Console).cliLogin},
		{"GET", "/welcome/cli", public, (*Console).welcome},

		{"GET", "/{$}", signedIn, (*Console).home},
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
