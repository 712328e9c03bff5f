package web

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// updateRow is one update as lists show it.
type updateRow struct {
	Kind, Path, Title string
	Version           int64
	Result            result
	Running           bool
	Message           string
	Who, Token        string
	Start, End        time.Time
	Took              time.Duration
	Changes           []opCount
	Git               *gitView
	Preview           bool
}

// result is how an update ended, or that it has not.
type result struct {
	Text string
	Tone string // ok, bad, busy or quiet: the class of its badge
}

func viewResult(text string) result {
	switch text {
	case "succeeded":
		return result{"Succeeded", "ok"}
	case "failed":
		return result{"Failed", "bad"}
	case "cancelled":
		return result{"Cancelled", "bad"}
	case "in-progress", "running":
		return result{"Running", "busy"}
	case "not-started", "not started", "requested":
		return result{"Not started", "quiet"}
	case "":
		return result{"Unknown", "quiet"}
	}
	return result{sentenceCase(text), "quiet"}
}

func sentenceCase(text string) string {
	if text == "" {
		return ""
	}
	return strings.ToUpper(text[:1]) + strings.ReplaceAll(text[1:], "-", " ")
}

// kindTitle names a kind of update. The API marks previews of other kinds than
// update with a P.
func kindTitle(kind string) string {
	if rest, ok := strings.CutPrefix(kind, "P"); ok && rest != "" {
		return "Preview of " + rest
	}
	return sentenceCase(kind)
}

func viewUpdate(n stackName, u *wireUpdate) updateRow {
	info := u.info()
	row := updateRow{
		Kind: info.Kind, Title: kindTitle(info.Kind), Version: info.Version, Result: viewResult(info.Result), Message: info.Message,
		Start: seconds(info.Start), End: seconds(info.End), Changes: countOps(info.Changes.V), Git: viewGit(info.Environment.V), Token: u.Token,
	}
	row.Running = row.Result.Tone == "busy"
	row.Path = n.Path("updates", strconv.FormatInt(info.Version, 10))
	if u.RequestedBy != nil {
		row.Who = u.RequestedBy.Name
		if row.Who == "" {
			row.Who = u.RequestedBy.Login
		}
	}
	if row.End.After(row.Start) {
		row.Took = row.End.Sub(row.Start)
	}
	return row
}

// opCount is how many resources an update created, changed and so on.
type opCount struct {
	Sign, Word, Tone string
	N                int64
}

// countOps sums the operations of the engine up to what a person asks about.
func countOps(changes map[string]int64) []opCount {
	sums := map[string]int64{}
	for op, n := range changes {
		sums[opClass(op)] += n
	}
	var counts []opCount
	for _, class := range []string{"create", "update", "replace", "delete", "read", "same"} {
		if sums[class] > 0 {
			o := ops[class]
			counts = append(counts, opCount{o.sign, o.past, class, sums[class]})
		}
	}
	return counts
}

// ops are the classes of operation that pages tell apart.
var ops = map[string]struct{ sign, past, doing string }{
	"create":  {"+", "created", "create"},
	"update":  {"~", "updated", "update"},
	"replace": {"±", "replaced", "replace"},
	"delete":  {"−", "deleted", "delete"},
	"read":    {"›", "read", "read"},
	"same":    {"=", "unchanged", "unchanged"},
}

func opClass(op string) string {
	switch op {
	case "create", "import":
		return "create"
	case "update":
		return "update"
	case "replace", "create-replacement", "delete-replaced", "import-replacement", "discard-replaced", "read-replacement", "remove-pending-replace":
		return "replace"
	case "delete", "discard":
		return "delete"
	case "read":
		return "read"
	}
	return "same"
}

// gitView is the source that an update was made from.
type gitView struct {
	Commit, Short, Branch, Author, Repository string
	Dirty                                     bool
	Link                                      string // of the commit, when its host is known
}

func viewGit(environment map[string]string) *gitView {
	commit := environment["git.head"]
	if commit == "" {
		return nil
	}
	g := &gitView{
		Commit: commit, Short: commit[:min(len(commit), 9)], Branch: strings.TrimPrefix(environment["git.headName"], "refs/heads/"),
		Author: environment["git.author"], Dirty: environment["git.dirty"] == "true",
	}
	owner, repo := environment["vcs.owner"], environment["vcs.repo"]
	if owner == "" || repo == "" {
		return g
	}
	g.Repository = owner + "/" + repo
	base := map[string]string{"github.com": "https://github.com/", "gitlab.com": "https://gitlab.com/", "bitbucket.org": "https://bitbucket.org/"}[environment["vcs.kind"]]
	if base != "" {
		between := map[string]string{"gitlab.com": "/-/commit/", "bitbucket.org": "/commits/"}[environment["vcs.kind"]]
		if between == "" {
			between = "/commit/"
		}
		g.Link = base + (&url.URL{Path: g.Repository}).EscapedPath() + between + url.PathEscape(commit)
	}
	return g
}

type updatePage struct {
	Name        stackName
	Update      updateRow
	Resources   *int64
	CI          string // address of the pipeline that ran it
	Machine     []pair // where it ran
	Config      []property
	Log         updateLog
	All         bool // unchanged resources are listed too
	Still       bool // the page does not load itself again
	Path        string
	HistoryPath string
}

// update is the page of one version of a stack.
func (c *Console) update(w http.ResponseWriter, v *visit) error {
	n, err := v.names()
	if err != nil {
		return err
	}
	version, err := strconv.ParseInt(v.r.PathValue("version"), 10, 64)
	if err != nil || version < 1 {
		return errNoPage
	}
	var u wireUpdate
	if err := v.api().get(nil, &u, n.segments("updates", strconv.FormatInt(version, 10))...); err != nil {
		return err
	}
	row := viewUpdate(n, &u)
	row.Version = version
	row.Path = n.Path("updates", strconv.FormatInt(version, 10))
	return c.renderUpdate(w, v, n, &u, row, kindTitle(row.Kind)+" "+strconv.FormatInt(version, 10))
}

// preview is the page of a preview, which has no version.
func (c *Console) preview(w http.ResponseWriter, v *visit) error {
	n, err := v.names()
	if err != nil {
		return err
	}
	id := v.r.PathValue("update")
	if !validName(id) {
		return errNoPage
	}
	var u wireUpdate
	if err := v.api().get(nil, &u, n.segments("previews", id)...); err != nil {
		return err
	}
	if u.ID == "" {
		u.ID = id
	}
	row := viewUpdate(n, &u)
	row.Preview, row.Path = true, n.Path("previews", id)
	title := row.Title
	if !strings.HasPrefix(title, "Preview") {
		title = "Preview"
		if row.Kind != "" && row.Kind != "update" {
			title += " of " + row.Kind
		}
	}
	return c.renderUpdate(w, v, n, &u, row, title)
}

// refreshEvery is how often the page of a running update loads itself again.
const refreshEvery = 5

func (c *Console) renderUpdate(w http.ResponseWriter, v *visit, n stackName, u *wireUpdate, row updateRow, title string) error {
	info := u.info()
	q := v.r.URL.Query()
	p := updatePage{
		Name: n, Update: row, Resources: info.Resources, All: q.Get("unchanged") == "show", Still: q.Get("refresh") == "off",
		Path: row.Path, HistoryPath: n.Path("updates"), Config: viewConfig(info.Config.V), Machine: viewMachine(info.Environment.V),
	}
	if link, err := url.Parse(info.Environment.V["ci.build.url"]); err == nil && (link.Scheme == "https" || link.Scheme == "http") && link.Host != "" {
		p.CI = link.String()
	}
	if u.ID != "" {
		events, cut, err := v.events(n, u.ID)
		if err != nil {
			return err
		}
		p.Log = viewEvents(events, row.Running, p.All)
		p.Log.Cut = cut
	}
	if len(p.Update.Changes) == 0 {
		p.Update.Changes = p.Log.Counts
	}
	if row.Preview {
		p.Log.foretell()
		for i := range p.Update.Changes {
			if c := &p.Update.Changes[i]; c.Tone != "same" {
				c.Word = "to " + ops[c.Tone].doing
			}
		}
	}
	if row.Preview || row.Running {
		p.Resources = nil // it is known when an update has ended
	}
	view := page{Title: title, Crumbs: append(crumbs(n), crumb{title, row.Path}), Tabs: stackTabs(n, "history"), Body: p}
	if row.Running && !p.Still {
		view.Refresh = refreshEvery
	}
	return c.render(w, v, http.StatusOK, "update", view)
}

// Bounds of the events that one page is made of.
const (
	maxEvents     = 20_000
	maxEventPages = 200
)

// events returns the events of an update as far as there are any, in order, and
// whether there are more than a page shows.
func (v *visit) events(n stackName, id string) ([]wireEvent, bool, error) {
	var all []wireEvent
	query := url.Values{}
	for range maxEventPages {
		var list wireEventList
		if err := v.api().get(query, &list, n.segments("update", id, "events")...); err != nil {
			return nil, false, err
		}
		for _, e := range list.Events {
			all = append(all, e.V)
		}
		// While the update runs the last answer has a token too, for what comes next.
		if list.Next == nil || *list.Next == "" || len(list.Events) == 0 || *list.Next == query.Get("continuationToken") {
			return all, false, nil
		}
		if len(all) >= maxEvents {
			break
		}
		query.Set("continuationToken", *list.Next)
	}
	return all, true, nil
}

func viewConfig(config map[string]wireConfig) []property {
	var all []property
	for key, c := range config {
		v := value{kind: '"', text: c.String}
		switch {
		case c.Secret && !c.Object:
			v = secretValue
		case c.Object:
			v = parseValue([]byte(c.String))
		}
		all = append(all, property{key, v})
	}
	slices.SortFunc(all, func(a, b property) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// viewMachine tells where an update ran, in a few lines.
func viewMachine(environment map[string]string) []pair {
	var all []pair
	for _, line := range []struct {
		name string
		keys []string
	}{
		{"Pulumi", []string{"pulumi.version"}},
		{"Runtime", []string{"runtime.name", "runtime.version"}},
		{"Machine", []string{"pulumi.os", "pulumi.arch"}},
		{"CI", []string{"ci.system", "ci.build.number"}},
		{"Pull request", []string{"ci.pr.number"}},
	} {
		var parts []string
		for _, key := range line.keys {
			if text := environment[key]; text != "" {
				parts = append(parts, text)
			}
		}
		if len(parts) > 0 {
			all = append(all, pair{line.name, strings.Join(parts, " ")})
		}
	}
	return all
}
