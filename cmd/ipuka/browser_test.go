package main

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/go-rod/rod"
	"github.com/go-rod/rod/lib/input"

	"github.com/ipuka/ipuka/identity"
)

// TestBrowser walks through the console in a real browser: it sets a fresh
// installation up, signs in and out, makes tokens, uses and revokes them, and reads
// the pages of stacks and updates. With IPUKA_TEST_SCREENSHOTS=DIR it keeps a picture
// of every page, in both color schemes, as wide as a desktop and as a phone.
func TestBrowser(t *testing.T) {
	browser := openBrowser(t)
	t.Run("walk", func(t *testing.T) { install(t).tab(t, browser, "walk", true).walk() })
	t.Run("without scripts", func(t *testing.T) { install(t).tab(t, browser, "plain", false).walk() })
	t.Run("stacks", func(t *testing.T) { testStackPages(t, browser) })
}

const testPassword = "correct horse battery staple"

// house is a running Ipuka in a folder of its own.
type house struct {
	t   testing.TB
	app *app
	url string // of the console and the API
}

func install(t *testing.T) *house {
	t.Helper()
	return installWith(t, "")
}

// installWith is install with a configuration file, "" for none.
func installWith(t *testing.T, file string) *house {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c, err := load(file, nil, map[string]string{
		"data_dir": filepath.Join(t.TempDir(), "data"), "listen": listener.Addr().String(), "console_listen": "",
	})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError}))
	a, err := openApp(t.Context(), c, log)
	if err != nil {
		t.Fatal(err)
	}
	background, stop := context.WithCancel(context.Background())
	a.work(background)
	server := &http.Server{Handler: a.handler(c), ReadHeaderTimeout: patience}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() {
		if err := a.drain(c, server, log); err != nil {
			t.Error(err)
		}
		stop()
		if err := a.close(); err != nil {
			t.Error(err)
		}
	})
	return &house{t: t, app: a, url: c.addresses().console}
}

// call asks the API, and returns the body of an answer of that status.
func (i *house) call(authorization, method, path, body string, status int) []byte {
	i.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, i.url+path, strings.NewReader(body))
	if err != nil {
		i.t.Fatal(err)
	}
	request.Header.Set("Authorization", authorization)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "pulumi-cli/1 (3.259.0; linux)")
	response, err := (&http.Client{}).Do(request)
	if err != nil {
		i.t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		i.t.Fatal(err)
	}
	if response.StatusCode != status {
		i.t.Fatalf("%s %s: status %d, want %d: %s", method, path, response.StatusCode, status, answer)
	}
	return answer
}

var tokenForm = regexp.MustCompile(`^ipk_[0-9A-Za-z]{40,60}$`)

// walk is what a new installation's first hour looks like.
func (b *tab) walk() {
	b.setUp()
	b.useTokens()
	b.signInCommand()
	b.signOutAndIn()
	b.quiet()
}

func (b *tab) setUp() {
	code, err := b.app.directory.SetupCode(context.Background())
	b.must(err)
	b.open("/setup", 403)
	b.open("/setup?code=guess", 403)
	b.look("setup-refused")
	b.open("/setup?code="+url.QueryEscape(code), 200)
	b.look("setup")
	for _, field := range [][2]string{
		{"Organization", "acme"}, {"Your login", "alice"}, {"Your name", "Alice Adams"}, {"Your e-mail address", "alice@example.com"},
		{"Password", testPassword}, {"Password again", testPassword + "r"},
	} {
		b.fill(field[0], field[1])
	}
	b.expect(b.url+"/setup", 400)
	b.follow("Set up and sign in", 400)
	b.says("The two passwords are not the same.")
	b.look("setup-problem")
	b.fill("Password", testPassword)
	b.fill("Password again", testPassword)
	b.follow("Set up and sign in", 200)
	b.isAt("/acme", "acme")
	b.says("No stacks yet", "pulumi login http://"+strings.TrimPrefix(b.url, "http://"))
	b.look("no-stacks")
	b.open("/setup?code="+url.QueryEscape(code), 404) // it worked once
}

func (b *tab) useTokens() {
	b.open("/user/settings/tokens", 200)
	b.says("You have no active token.")
	b.look("no-tokens")
	b.fill("What is it for?", "deploy from the build server")
	b.click("7 days")
	b.follow("Create token", 200)
	secret := b.value("#token")
	if !tokenForm.MatchString(secret) {
		b.Fatalf("the new token is %q", secret)
	}
	b.look("token-shown")
	b.copies("#token")
	var user struct {
		Login string `json:"githubLogin"`
	}
	b.must(json.Unmarshal(b.call("token "+secret, "GET", "/api/user", "", 200), &user))
	if user.Login != "alice" {
		b.Errorf("the token is of %q", user.Login)
	}

	b.secrets = append(b.secrets, secret)
	b.reload()
	b.says("deploy from the build server")
	b.look("tokens")
	b.follow("Revoke deploy from the build server", 200)
	b.look("revoke")
	b.follow("Keep it", 200)
	b.call("token "+secret, "GET", "/api/user", "", 200)
	b.follow("Revoke deploy from the build server", 200)
	b.follow("Revoke token", 200)
	b.isAt("/user/settings/tokens?done=revoked", "Access tokens")
	b.says("The token is revoked.", "You have no active token.")
	b.call("token "+secret, "GET", "/api/user", "", 401)
	b.open("/user/settings/sessions", 200)
	b.says("this one")
	b.look("sessions")
}

// copies checks the button that copies a text. Without scripts there is none.
func (b *tab) copies(selector string) {
	b.Helper()
	button := selector + " + .copy"
	var visible bool
	b.eval(`document.querySelector(`+quote(button)+`).checkVisibility()`, &visible)
	if visible != b.scripts {
		b.Errorf("with scripts %t, a button to copy is visible %t", b.scripts, visible)
	}
	if !visible {
		return
	}
	b.eval(`document.querySelector(`+quote(button)+`).click()`, nil)
	for end := time.Now().Add(patience); b.value(button) != "Copied"; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			b.Fatalf("the button says %q", b.value(button))
		}
	}
}

// commandListener waits on this machine for a token, as pulumi login does.
type commandListener struct {
	port     string
	requests chan *http.Request
}

func (b *tab) listen(nonce string) commandListener {
	b.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	b.must(err)
	requests := make(chan *http.Request, 10)
	server := &http.Server{ReadHeaderTimeout: patience, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests <- r
		if r.URL.Query().Get("nonce") != nonce {
			http.Error(w, "another nonce", http.StatusBadRequest)
			return
		}
		http.Redirect(w, r, b.url+"/welcome/cli", http.StatusTemporaryRedirect)
	})}
	go func() { _ = server.Serve(listener) }()
	b.Cleanup(func() { _ = server.Close() })
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	b.others = append(b.others, "http://"+listener.Addr().String())
	return commandListener{port, requests}
}

func loginPath(port, nonce string) string {
	return "/cli-login?" + url.Values{
		"cliSessionPort": {port}, "cliSessionNonce": {nonce}, "cliCommand": {"pulumi new"},
		"cliSessionDescription": {"Generated by pulumi login on workshop at 22 Nov 26 13:45 UTC"},
	}.Encode()
}

func (b *tab) signInCommand() {
	nonce, other := strings.Repeat("0a1b2c3d", 8), strings.Repeat("f9e8d7c6", 8)
	command := b.listen(nonce)
	b.open(loginPath(command.port, nonce), 200)
	b.says("asks for an access token of alice", "workshop", "pulumi new")
	b.look("cli-login")
	if len(command.requests) != 0 {
		b.Fatal("the command was called before anybody confirmed")
	}
	b.follow("Allow sign-in", 200)
	b.isAt("/welcome/cli", "You are signed in")
	b.look("welcome")
	request := <-command.requests
	token, _ := strings.CutPrefix(request.RequestURI, "/?accessToken=")
	token, ok := strings.CutSuffix(token, "&nonce="+nonce)
	if !ok || !tokenForm.MatchString(token) || request.Method != http.MethodGet {
		b.Fatalf("the command was sent %s %s", request.Method, request.RequestURI)
	}
	if request.Header.Get("Cookie") != "" || request.Header.Get("Referer") != "" {
		b.Errorf("the command was sent %v", request.Header)
	}
	b.call("token "+token, "GET", "/api/user", "", 200)

	b.open(loginPath(command.port, nonce), 200)
	b.follow("Allow sign-in", 409)
	b.says("This sign-in has been used")
	b.look("cli-login-used")
	if len(command.requests) != 0 {
		b.Error("the command was sent a second token")
	}

	b.open(loginPath(command.port, other), 200)
	b.follow("Show the token instead", 200)
	shown := b.value("#token")
	b.look("cli-token")
	b.call("token "+shown, "GET", "/api/user", "", 200)
	if len(command.requests) != 0 {
		b.Error("the token on the page was sent to the command too")
	}
	b.secrets = append(b.secrets, token, shown)
	b.open("/cli-login?cliSessionPort=22&cliSessionNonce="+nonce, 400)
	b.look("cli-login-bad")
}

func (b *tab) signOutAndIn() {
	b.open("/acme", 200)
	b.click("Account menu of alice")
	b.says("alice@example.com", "Sessions")
	b.follow("Sign out", 200)
	b.isAt("/signin", "Sign in")
	for _, path := range []string{"/acme", "/user/settings/tokens", loginPath("4321", strings.Repeat("0a", 32))} {
		b.open(path, 200)
		b.isAt("/signin?"+url.Values{"returnTo": {path}}.Encode(), "Sign in")
	}
	b.open("/user/settings/sessions", 200)
	b.look("signin")
	b.signInByKeyboard("wrong horse", 401)
	b.says("This login and password do not belong together.")
	b.look("signin-problem")
	b.types(testPassword) // the login is still there
	b.press(input.Enter, 200)
	b.isAt("/user/settings/sessions", "Sessions")
}

// signInByKeyboard fills the form where the browser has put the focus.
func (b *tab) signInByKeyboard(password string, status int) {
	b.Helper()
	if focus := b.focus(); focus != "login" {
		b.Errorf("the focus is on %q", focus)
	}
	b.types("alice")
	b.must(b.page.Keyboard.Type(input.Tab))
	if focus := b.focus(); focus != "password" {
		b.Errorf("a tab after the login, the focus is on %q", focus)
	}
	b.types(password)
	b.must(b.page.Keyboard.Type(input.Tab))
	if focus := b.focus(); focus != "Sign in" {
		b.Errorf("a tab after the password, the focus is on %q", focus)
	}
	b.expect(b.url+"/signin", status)
	b.press(input.Enter, status)
}

// press presses the key that sends a form.
func (b *tab) press(key input.Key, status int) {
	b.Helper()
	if got := b.loads(func(*rod.Page) error { return b.page.Keyboard.Type(key) }); got != status {
		b.Fatalf("status %d, want %d:\n%s", got, status, b.text())
	}
}

// prepare sets the installation up without a browser, and returns a token.
func (i *house) prepare() string {
	i.t.Helper()
	first := identity.First{Login: "alice", Name: "Alice Adams", Email: "alice@example.com", Organization: "acme"}
	token, err := i.app.firstToken(context.Background(), first, testPassword)
	if err != nil {
		i.t.Fatal(err)
	}
	return token
}
