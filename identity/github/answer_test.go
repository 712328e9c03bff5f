package github_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/ipuka/ipuka/identity/github"
)

// TestOddAnswers is about answers that the fake does not give and other versions of
// GitHub may.
func TestOddAnswers(t *testing.T) {
	for _, test := range []struct {
		name, path, answer string
		want               string
		groups             []string
	}{
		{"suspended, and told so in the account", "/api/v3/user", `{"id":101,"login":"ada","type":"User","suspended_at":"2026-01-02T03:04:05Z"}`, "github_suspended", nil},
		{"an invitation in spite of the filter", "/api/v3/user/memberships/orgs",
			`[{"state":"pending","role":"admin","organization":{"id":9002,"login":"globex"}},{"state":"active","role":"member","organization":{"id":9001,"login":"Acme"}}]`,
			"", []string{"Acme", "Acme/platform", "Acme/ops"}},
		{"a team of an organization that is not theirs", "/api/v3/user/teams",
			`[{"id":1,"slug":"all","organization":{"id":9002,"login":"globex"}},{"id":2,"slug":"all"},{"id":3,"slug":"x","organization":{"id":9001,"login":"other"}}]`,
			"", []string{"Acme", "Acme/x"}},
		{"a token of another type", "/login/oauth/access_token", `{"access_token":"x","token_type":"mac"}`, "unavailable", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := start(t)
			s.SetFault(func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path == test.path {
					w.Header().Set("Content-Type", "application/json")
					fmt.Fprint(w, test.answer)
				}
				return r.URL.Path == test.path
			})
			x, err := signIn(t, s, connect(t, s, nil), "ada")
			if got := reason(t, err); got != test.want {
				t.Fatalf("reason %q, want %q: %v", got, test.want, err)
			}
			if strings.Contains(test.path, "token") && slices.Contains(s.Calls(), "GET /api/v3/user") {
				t.Error("the token was used")
			}
			var paths []string
			for _, g := range x.Groups {
				paths = append(paths, g.Path)
			}
			if !slices.Equal(paths, test.groups) {
				t.Errorf("groups %v, want %v", paths, test.groups)
			}
		})
	}
}

// TestBearer is F27 without the client's refusal to follow redirects.
func TestBearer(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("another host was asked, with %q", r.Header.Get("Authorization"))
	}))
	defer other.Close()
	told := ""
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		told = r.Header.Get("Authorization")
		w.Header().Set("Location", other.URL)
		w.WriteHeader(http.StatusFound)
	}))
	defer api.Close()
	client := &http.Client{Transport: github.Bearer(nil, strings.TrimPrefix(api.URL, "http://"), "canary")}
	if answer, err := client.Get(api.URL); err == nil {
		answer.Body.Close()
		t.Error("no error")
	}
	if told != "Bearer canary" {
		t.Errorf("the API was told %q", told)
	}
}
