"""Tokenized caches as users see them."""

from sqlalchemy import select

from steelyard.datasets import catalogue
from steelyard.governance import access
from steelyard.governance.identity import Actor
from steelyard.kit.errors import InvalidRequest, NotFound
from steelyard.specs.access import Permission
from steelyard.specs.tokens import TokenCacheView, TokenSettings, TokenSummary
from steelyard.storage.database import Database
from steelyard.storage.tables import TokenizedCacheRow

_MOST = 1000


class TokenizedQueryService:
    """Reads what is known of tokenized caches."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of_version(self, actor: Actor, project: str, ref: str) -> list[TokenCacheView]:
        """Return the caches of a version, the one used last first.

        Raises:
            NotFound: the project has no such version.
        """
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.DATASET_READ)
            try:
                version = await catalogue.resolve(session, checked, ref)
            except InvalidRequest as error:
                raise NotFound(error.message) from error
            rows = await session.scalars(
                select(TokenizedCacheRow)
                .where(
                    TokenizedCacheRow.project_id == checked,
                    TokenizedCacheRow.dataset_digest == version.digest,
                )
                .order_by(TokenizedCacheRow.last_used_at.desc(), TokenizedCacheRow.key)
                .limit(_MOST)
            )
            return [_view(row) for row in rows]


def _view(row: TokenizedCacheRow) -> TokenCacheView:
    settings = TokenSettings.model_validate(row.settings)
    summary = TokenSummary.model_validate(row.summary)
    return TokenCacheView(
        key=row.key,
        digest=row.digest,
        dataset_digest=row.dataset_digest,
        tokenizer=row.tokenizer,
        tokenizer_digest=settings.tokenizer_digest,
        template_digest=settings.template_digest,
        max_length=settings.max_length,
        overlong=settings.overlong,
        packing=settings.packing,
        assistant_only_loss=settings.assistant_only_loss,
        completion_only_loss=settings.completion_only_loss,
        rows=summary.rows_kept,
        rows_in=summary.rows_in,
        rows_overlong=summary.rows_overlong,
        dropped_share=1.0 - summary.rows_kept / max(1, summary.rows_in),
        sequences=summary.sequences,
        tokens=summary.tokens,
        loss_tokens=summary.loss_tokens,
        size_bytes=row.size_bytes,
        made_at=row.made_at,
        last_used_at=row.last_used_at,
    )
