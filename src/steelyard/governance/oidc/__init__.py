"""Sign-in through an OpenID Connect provider: authorization code with PKCE, for browsers and command line."""
