package proxy_test

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/httpapi"
	"github.com/ipuka/ipuka/rbac"
)

// listOf answers as a state service that has these stacks in organization acme and
// none elsewhere, in pages of at most 7.
func listOf(names ...string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, r *http.Request) {
		from, _ := strconv.Atoi(r.URL.Query().Get("continuationToken"))
		stacks := []map[string]any{}
		answer := map[string]any{}
		if r.URL.Query().Get("organization") == "acme" {
			for i := from; i < min(from+7, len(names)); i++ {
				project, stack, _ := strings.Cut(names[i], "/")
				stacks = append(stacks, map[string]any{"orgName": "acme", "projectName": project, "stackName": stack, "resourceCount": i})
			}
			if from+7 < len(names) {
				answer["continuationToken"] = strconv.Itoa(from + 7)
			}
		}
		answer["stacks"] = stacks
		httpapi.WriteJSON(w, http.StatusOK, answer)
	}
}

// list follows the continuation tokens to the end.
func (f *fixture) list(who, query string) (names []string, pages int) {
	f.t.Helper()
	token := ""
	for {
		path := "/api/user/stacks?" + query
		if token != "" {
			path += "&continuationToken=" + token
		}
		got := f.want(200, request{method: "GET", path: path, who: who})
		var page struct {
			Stacks []struct{ ProjectName, StackName string }
			Token  *string `json:"continuationToken"`
		}
		f.check(json.Unmarshal([]byte(got.body), &page, json.MatchCaseInsensitiveNames(true)))
		for _, s := range page.Stacks {
			names = append(names, s.ProjectName+"/"+s.StackName)
		}
		pages++
		if page.Token == nil {
			return names, pages
		}
		if token = *page.Token; token == "" || pages > 100 {
			f.t.Fatalf("the list does not end: %s", got.body)
		}
	}
}

func TestListsHoldOnlyWhatTheCallerMayRead(t *testing.T) {
	f := newFixture(t)
	var all []string
	for i := range 40 {
		all = append(all, fmt.Sprintf("web/s%02d", i))
	}
	all = append(all, "web/prod")
	f.upstream.answer = listOf(all...)
	actor := identity.Principal{UserID: f.users["alice"].ID, Login: "alice"}
	for _, stack := range []string{"s03", "s20", "s39"} {
		f.check(f.engine.Grant(t.Context(), actor, rbac.Object{Organization: "acme", Project: "web", Stack: stack}, f.users["rita"].ID, rbac.Read))
	}
	ritas := []string{"web/s03", "web/s20", "web/s39", "web/prod"}
	for _, size := range []string{"1", "2", "3", "5", "1000"} {
		if got, _ := f.list("rita", "maxResults="+size); strings.Join(got, " ") != strings.Join(ritas, " ") {
			t.Errorf("in pages of %s rita sees %v", size, got)
		}
		if got, _ := f.list("alice", "maxResults="+size); strings.Join(got, " ") != strings.Join(all, " ") {
			t.Errorf("in pages of %s alice sees %d stacks: %v", size, len(got), got)
		}
	}
	if _, pages := f.list("alice", "maxResults=10"); pages != 5 {
		t.Errorf("41 stacks in pages of 10 take %d pages", pages)
	}
	for _, who := range []string{"mo", "eve"} {
		if got, _ := f.list(who, ""); len(got) != 0 {
			t.Errorf("%s sees %v", who, got)
		}
	}
	if got, _ := f.list("eve", "organization=acme"); len(got) != 0 {
		t.Errorf("eve sees %v", got)
	}
	f.want(200, request{method: "HEAD", path: "/api/stacks/acme/web", who: "rita"})
	f.want(404, request{method: "HEAD", path: "/api/stacks/acme/web", who: "mo"})
	f.want(404, request{method: "HEAD", path: "/api/stacks/acme/web", who: "eve"})
}

func TestCursorIsGoodForItsListOnly(t *testing.T) {
	f := newFixture(t)
	f.upstream.answer = listOf("web/a", "web/b", "web/prod")
	cursor := f.cursor()
	f.want(200, request{method: "GET", path: "/api/user/stacks?continuationToken=" + cursor, who: "alice"})
	for _, q := range []request{
		{method: "GET", path: "/api/user/stacks?continuationToken=" + cursor, who: "rita"},
		{method: "GET", path: "/api/user/stacks?project=web&continuationToken=" + cursor, who: "alice"},
		{method: "GET", path: "/api/user/stacks?continuationToken=" + cursor[1:], who: "alice"},
		{method: "GET", path: "/api/user/stacks?continuationToken=7", who: "alice"},
		{method: "GET", path: "/api/user/stacks?maxResults=0", who: "alice"},
		{method: "GET", path: "/api/user/stacks?maxResults=x", who: "alice"},
	} {
		f.want(400, q)
	}
}
