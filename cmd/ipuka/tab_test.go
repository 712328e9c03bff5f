package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-rod/rod"
	"github.com/go-rod/rod/lib/input"
	"github.com/go-rod/rod/lib/launcher"
	"github.com/go-rod/rod/lib/proto"
)

// patience bounds each wait for the browser.
const patience = 30 * time.Second

// openBrowser starts the installed Chromium, which reaches this machine only. Without
// one the test is skipped, and fails where CI=true says that it must run.
func openBrowser(t *testing.T) *rod.Browser {
	t.Helper()
	var path string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		const missing = "chromium is not on PATH: the console is not tested in a browser"
		if os.Getenv("CI") == "true" {
			t.Fatal(missing)
		}
		t.Skip(missing)
	}
	folder, err := os.MkdirTemp("", "ipuka-browser-")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	l := launcher.New().Context(ctx).Bin(path).Leakless(false).UserDataDir(folder).
		Set("no-sandbox").Set("disable-quic").Set("disable-background-networking").Set("disable-component-update").
		Set("disable-sync").Set("no-first-run").
		Set("host-resolver-rules", "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost")
	address, err := l.Launch()
	if err != nil {
		_ = os.RemoveAll(folder)
		t.Fatalf("starting %s: %v", path, err)
	}
	t.Cleanup(func() {
		l.Kill()
		l.Cleanup()
	})
	browser := rod.New().ControlURL(address).NoDefaultDevice()
	if err := browser.Connect(); err != nil {
		t.Fatalf("connecting to %s: %v", path, err)
	}
	return browser
}

// tab is a page of a fresh profile, driven as a person drives it: by what is written
// on it. It takes note of everything that the browser complains of.
type tab struct {
	testing.TB
	*house
	page    *rod.Page
	scripts bool
	secrets []string // texts that no page may have, in sight or not
	others  []string // origins that a page may lead to besides the console's
	album   string   // prefix of the names of screenshots
	shots   int

	mu       sync.Mutex
	troubles []string
	requests []string
	flushed  chan struct{}
	refused  map[string]bool // addresses that were to be answered with an error
}

func (i *house) tab(t *testing.T, browser *rod.Browser, album string, scripts bool) *tab {
	t.Helper()
	private, err := browser.Incognito()
	if err != nil {
		t.Fatal(err)
	}
	page, err := private.Page(proto.TargetCreateTarget{})
	if err != nil {
		t.Fatal(err)
	}
	b := &tab{TB: t, house: i, page: page, scripts: scripts, album: album, flushed: make(chan struct{}, 1), refused: map[string]bool{}}
	b.must(proto.EmulationSetFocusEmulationEnabled{Enabled: true}.Call(page))
	b.must(proto.EmulationSetScriptExecutionDisabled{Value: !scripts}.Call(page))
	b.must(proto.BrowserGrantPermissions{
		Permissions:      []proto.BrowserPermissionType{proto.BrowserPermissionTypeClipboardReadWrite, proto.BrowserPermissionTypeClipboardSanitizedWrite},
		BrowserContextID: private.BrowserContextID,
	}.Call(browser))
	b.must(proto.EmulationSetScrollbarsHidden{Hidden: true}.Call(page))
	b.size(desktop)
	watched, stop := page.WithCancel()
	go b.watch(watched)()
	t.Cleanup(func() {
		stop()
		if err := private.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

const flushMark = "every event has arrived"

// watch returns what collects the browser's complaints and requests until its page's
// context ends.
func (b *tab) watch(page *rod.Page) (wait func()) {
	note := func(format string, args ...any) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.troubles = append(b.troubles, fmt.Sprintf(format, args...))
	}
	return page.EachEvent(
		func(e *proto.PageLoadEventFired) {},
		func(e *proto.LogEntryAdded) {
			b.mu.Lock()
			bare, _, _ := strings.Cut(e.Entry.URL, "?")
			expected := e.Entry.Source == proto.LogLogEntrySourceNetwork && (b.refused[e.Entry.URL] || b.refused[bare])
			b.mu.Unlock()
			if !expected {
				note("log, %s %s: %s (%s)", e.Entry.Source, e.Entry.Level, e.Entry.Text, e.Entry.URL)
			}
		},
		func(e *proto.RuntimeConsoleAPICalled) {
			if len(e.Args) == 1 && e.Args[0].Value.Str() == flushMark {
				b.flushed <- struct{}{}
				return
			}
			note("console.%s: %v", e.Type, e.Args)
		},
		func(e *proto.RuntimeExceptionThrown) {
			note("exception: %s", e.ExceptionDetails.Text)
		},
		func(e *proto.AuditsIssueAdded) {
			if e.Issue.Code == "BounceTrackingIssue" {
				return // a CLI's listener leads back here, and is no site that tracks anybody
			}
			details, _ := json.Marshal(e.Issue.Details)
			note("%s: %s", e.Issue.Code, details)
		},
		func(e *proto.NetworkRequestWillBeSent) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.requests = append(b.requests, e.Request.URL)
		},
	)
}

// quiet checks that the browser had nothing to complain of since the last call, and
// that no page asked for anything outside of the console.
func (b *tab) quiet() {
	b.Helper()
	b.eval("console.debug("+quote(flushMark)+")", nil)
	select {
	case <-b.flushed:
	case <-time.After(patience):
		b.Fatal("the browser's events do not arrive")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, trouble := range b.troubles {
		if slices.ContainsFunc(b.others, func(origin string) bool { return strings.Contains(trouble, origin+"/") }) {
			continue // somebody else's page
		}
		b.Errorf("the browser complains: %s", trouble)
	}
	for _, address := range b.requests {
		own := func(origin string) bool { return strings.HasPrefix(address, origin+"/") }
		// Chromium draws parts of a date field from data: addresses of its own.
		if !strings.HasPrefix(address, "data:") && !own(b.url) && !slices.ContainsFunc(b.others, own) {
			b.Errorf("a page asked for %s", address)
		}
	}
	b.troubles, b.requests = nil, nil
}

func (b *tab) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func quote(text string) string {
	quoted, _ := json.Marshal(text)
	return string(quoted)
}

// eval runs a script of the test's, which works with the pages' own scripts off too.
func (b *tab) eval(script string, result any) {
	b.Helper()
	page := b.page.Timeout(patience)
	defer page.CancelTimeout()
	answer, err := proto.RuntimeEvaluate{Expression: script, ReturnByValue: true, UserGesture: true}.Call(page)
	b.must(err)
	if answer.ExceptionDetails != nil {
		b.Fatalf("%s: %s", script, answer.ExceptionDetails.Exception.Description)
	}
	if result != nil {
		b.must(answer.Result.Value.Unmarshal(result))
	}
}

// loads waits for the page that act leads to, and returns its status.
func (b *tab) loads(act func(*rod.Page) error) int {
	b.Helper()
	page := b.page.Timeout(patience)
	defer page.CancelTimeout()
	wait := page.WaitEvent(&proto.PageLoadEventFired{})
	b.must(act(page))
	wait()
	if err := page.GetContext().Err(); err != nil {
		b.Fatalf("no page has come: %v; this one says:\n%s", err, b.text())
	}
	var status int
	b.eval(`performance.getEntriesByType("navigation")[0].responseStatus`, &status)
	return status
}

// open goes to a path of the console, as a link from elsewhere leads there.
func (b *tab) open(path string, status int) {
	b.Helper()
	b.expect(b.url+path, status)
	if got := b.loads(func(page *rod.Page) error { return page.Navigate(b.url + path) }); got != status {
		b.Fatalf("%s: status %d, want %d:\n%s", path, got, status, b.text())
	}
}

func (b *tab) expect(address string, status int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refused[address] = status >= 400
}

// reload loads the address again, as entered once more and not as a form sent twice.
func (b *tab) reload() {
	b.Helper()
	b.open(b.at(), 200)
}

// at returns the path and query of the page.
func (b *tab) at() string {
	b.Helper()
	var path string
	b.eval("location.pathname + location.search", &path)
	return path
}

func (b *tab) text() string {
	b.Helper()
	var text string
	b.eval("document.body.innerText", &text)
	return text
}

// says checks that texts are to be read on the page.
func (b *tab) says(texts ...string) {
	b.Helper()
	page := strings.Join(strings.Fields(b.text()), " ")
	for _, text := range texts {
		if !strings.Contains(page, text) {
			b.Errorf("%s does not say %q:\n%s", b.at(), text, page)
		}
	}
}

// lacks checks that texts are not to be read on the page.
func (b *tab) lacks(texts ...string) {
	b.Helper()
	page := strings.Join(strings.Fields(b.text()), " ")
	for _, text := range texts {
		if strings.Contains(page, text) {
			b.Errorf("%s says %q:\n%s", b.at(), text, page)
		}
	}
}

// isAt checks the page's path and heading.
func (b *tab) isAt(path, heading string) {
	b.Helper()
	var h1 string
	b.eval(`document.querySelector("h1").innerText`, &h1)
	if h1 = strings.Join(strings.Fields(h1), " "); b.at() != path || h1 != heading {
		b.Fatalf("at %s, %q, and not at %s, %q:\n%s", b.at(), h1, path, heading, b.text())
	}
}

// click clicks what has the text on it, or is called so: a button, a link, a choice.
func (b *tab) click(text string) {
	b.Helper()
	b.must(b.clickOn(b.page, text))
}

// follow clicks what leads to another page, which must have the status.
func (b *tab) follow(text string, status int) {
	b.Helper()
	var action string
	b.eval(locate(text)+`; (found => found && (found.href || found.form && found.form.action) || "")(located)`, &action)
	b.expect(action, status)
	if got := b.loads(func(page *rod.Page) error { return b.clickOn(page, text) }); got != status {
		b.Fatalf("%q leads to a page of status %d, want %d:\n%s", text, got, status, b.text())
	}
}

// locate is a script that finds the one visible thing to click that has the text.
func locate(text string) string {
	return `var located = ((text) => {
		const plain = (s) => (s || "").replace(/\s+/g, " ").trim();
		const all = [...document.querySelectorAll("a[href], button, summary, label")].filter((e) => e.checkVisibility());
		const found = all.filter((e) => plain(e.textContent) === text || plain(e.getAttribute("aria-label")) === text);
		return found.length === 1 ? found[0] : null;
	})(` + quote(text) + `)`
}

func (b *tab) clickOn(page *rod.Page, text string) error {
	b.Helper()
	var at []float64
	b.eval(locate(text)+`; located && (() => {
		located.scrollIntoView({block: "center", behavior: "instant"});
		const box = located.getBoundingClientRect(), x = box.x + box.width / 2, y = box.y + box.height / 2;
		return located.contains(document.elementFromPoint(x, y)) ? [x, y] : null;
	})()`, &at)
	if len(at) != 2 {
		b.Fatalf("%s has no single %q in reach:\n%s", b.at(), text, b.text())
	}
	mouse := proto.InputDispatchMouseEvent{X: at[0], Y: at[1], Button: proto.InputMouseButtonLeft, ClickCount: 1}
	for _, kind := range []proto.InputDispatchMouseEventType{proto.InputDispatchMouseEventTypeMousePressed, proto.InputDispatchMouseEventTypeMouseReleased} {
		mouse.Type = kind
		if err := mouse.Call(page); err != nil {
			return err
		}
	}
	return nil
}

// fill writes into the field of that label.
func (b *tab) fill(label, text string) {
	b.Helper()
	var ok bool
	b.eval(`((text) => {
		const label = [...document.querySelectorAll("label")].find((l) => l.textContent.trim() === text);
		if (!label || !label.control) return false;
		label.control.focus();
		label.control.select();
		return document.activeElement === label.control;
	})(`+quote(label)+`)`, &ok)
	if !ok {
		b.Fatalf("%s has no field %q:\n%s", b.at(), label, b.text())
	}
	b.must(b.page.InsertText(text))
}

// types presses keys, wherever the focus is.
func (b *tab) types(text string) {
	b.Helper()
	for _, r := range text {
		b.must(b.page.Keyboard.Type(input.Key(r)))
	}
}

// focus returns what has it: an element's ID, or its text.
func (b *tab) focus() string {
	b.Helper()
	var name string
	b.eval(`document.activeElement.id || document.activeElement.textContent.trim()`, &name)
	return name
}

// value returns the text of the one element that a selector finds, "" for none.
func (b *tab) value(selector string) string {
	b.Helper()
	var text string
	b.eval(`(document.querySelector(`+quote(selector)+`) || {}).textContent || ""`, &text)
	return strings.TrimSpace(text)
}

// screen is what a page is looked at on.
type screen struct {
	name          string
	width, height int
	mobile        bool
}

var (
	desktop = screen{"1280", 1280, 900, false}
	phone   = screen{"390", 390, 844, true}
)

func (b *tab) size(s screen) {
	b.Helper()
	b.must(b.page.SetViewport(&proto.EmulationSetDeviceMetricsOverride{Width: s.width, Height: s.height, DeviceScaleFactor: 1, Mobile: s.mobile}))
}

// look checks what holds for every page, on a desktop and on a phone, and keeps
// pictures where IPUKA_TEST_SCREENSHOTS names a folder.
func (b *tab) look(name string) {
	b.Helper()
	b.shots++
	var source string
	b.eval("document.documentElement.outerHTML", &source)
	for _, secret := range b.secrets {
		if strings.Contains(source, secret) {
			b.Errorf("%s has a secret in its source: %q", name, secret)
		}
	}
	for _, screen := range []screen{desktop, phone} {
		b.size(screen)
		for _, scheme := range []string{"light", "dark"} {
			b.must(proto.EmulationSetEmulatedMedia{Features: []*proto.EmulationMediaFeature{{Name: "prefers-color-scheme", Value: scheme}}}.Call(b.page))
			var faults []string
			b.eval(pageFaults, &faults)
			for _, fault := range faults {
				b.Errorf("%s, %s px wide, %s: %s", name, screen.name, scheme, fault)
			}
			b.picture(fmt.Sprintf("%s-%02d-%s-%s-%s.png", b.album, b.shots, name, screen.name, scheme))
		}
		var wide []string
		b.eval(fmt.Sprintf(tooWide, screen.width), &wide)
		for _, element := range wide {
			b.Errorf("%s is wider than %s px: %s", name, screen.name, element)
		}
	}
	b.size(desktop)
	b.quiet()
}

func (b *tab) picture(file string) {
	b.Helper()
	folder := os.Getenv("IPUKA_TEST_SCREENSHOTS")
	if folder == "" {
		return
	}
	picture, err := b.page.Screenshot(true, nil)
	b.must(err)
	b.must(os.MkdirAll(folder, 0o755))
	b.must(os.WriteFile(filepath.Join(folder, file), picture, 0o644))
}
