"""What goes over the wire: requests with their limits, answers, examples of both."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic.json_schema import SkipJsonSchema

from hidvae.ranking.filters import Filters

MAX_BODY_BYTES = 1 << 20
MAX_USERS = 64
"""Of one request."""
MAX_HISTORY = 1000
"""Items of a history that a request gives."""
MAX_K = 100
MAX_BEAM_WIDTH = 500
MAX_PAGE = 200
"""Items of one answer to a search."""
MAX_NEW_ITEMS = 1000
"""Items that one request adds."""
_MAX_NAMES = 1000
"""Tag paths, or items left out, of one filter."""

Id = Annotated[str, StringConstraints(min_length=1, max_length=512)]
TagPath = Annotated[str, StringConstraints(min_length=1, max_length=1024)]


class _Request(BaseModel):
    """An unknown key, or a text where a number belongs, is refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class User(_Request):
    """Whom to recommend to: a history, or a user of the run's dataset with all their events."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [{"required": ["history"]}, {"required": ["user_id"]}],
            "examples": [{"history": ["item-00004", "item-00017"]}, {"user_id": "user-0001"}],
        }
    )

    _ways: ClassVar[tuple[str, ...]] = ("history", "user_id")

    history: Annotated[list[Id], Field(max_length=MAX_HISTORY)] | SkipJsonSchema[None] = Field(
        default=None, description="Item ids, oldest first; unknown ids are ignored and reported."
    )
    user_id: Id | SkipJsonSchema[None] = Field(
        default=None, description="Id of a user in the dataset."
    )

    @model_validator(mode="after")
    def _is_either(self) -> User:
        given = self.model_fields_set.intersection(self._ways)
        if len(given) != 1 or getattr(self, *given) is None:
            users = ", or users (a list of such)" if "users" in self._ways else ""
            raise ValueError(f"expected either a history (a list of item ids) or a user_id{users}")
        return self


class FiltersMessage(_Request):
    """Rules for a list; see docs/recommend.md."""

    under: list[TagPath] = Field(
        default=[], max_length=_MAX_NAMES, description="Only items under one of these tag paths."
    )
    not_under: list[TagPath] = Field(
        default=[], max_length=_MAX_NAMES, description="No items under these tag paths."
    )
    without: list[Id] = Field(default=[], max_length=_MAX_NAMES, description="None of these items.")
    most_per_tag: int = Field(
        default=0,
        ge=0,
        le=MAX_K,
        description="At most so many items with the same tag at tag_level; 0 sets no limit.",
    )
    tag_level: int = Field(
        default=0, ge=0, le=20, description="Level for most_per_tag; 0 is the coarsest."
    )
    diversity: float = Field(
        default=0.0,
        ge=0,
        le=100,
        allow_inf_nan=False,
        description="Penalty for items like those above them, in units of the score; 1 is strong.",
    )

    def to_filters(self) -> Filters:
        """The same for ``Recommender``."""
        return Filters(
            under=tuple(self.under),
            not_under=tuple(self.not_under),
            without=tuple(self.without),
            most_per_tag=self.most_per_tag,
            tag_level=self.tag_level,
            diversity=self.diversity,
        )


class RecommendRequest(User):
    """One user or several, and what their lists should be like."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"required": ["history"]},
                {"required": ["user_id"]},
                {"required": ["users"]},
            ],
            "examples": [
                {"history": ["item-00004", "item-00017"], "k": 5},
                {"users": [{"history": ["item-00004"]}, {"history": []}], "k": 3},
                {"history": [], "filters": {"most_per_tag": 1}},
            ],
        }
    )
    _ways: ClassVar[tuple[str, ...]] = ("history", "user_id", "users")

    users: (
        Annotated[list[User], Field(min_length=1, max_length=MAX_USERS)] | SkipJsonSchema[None]
    ) = Field(default=None, description="Several users; each gets a list.")
    k: int = Field(default=10, ge=1, le=MAX_K, description="Length of each list.")
    exclude_history: bool = Field(default=True, description="Leave out the items of the history.")
    beam_width: int | None = Field(
        default=None,
        ge=1,
        le=MAX_BEAM_WIDTH,
        description="Prefixes that the search keeps, at least k; by default those of the run.",
    )
    filters: FiltersMessage = Field(default=FiltersMessage(), description="Rules for each list.")


class ExplainRequest(User):
    """A history and the item to explain after it."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [{"required": ["history"]}, {"required": ["user_id"]}],
            "examples": [{"history": ["item-00004"], "item_id": "item-00017"}],
        }
    )

    item_id: Id = Field(description="The item to explain.")


Number = Annotated[int, Field(ge=-(2**63), lt=2**63)] | Annotated[float, Field(allow_inf_nan=False)]
Cell = Annotated[
    str | bool | Number | list[str] | list[Number] | None, Field(description="A column.")
]


class ItemColumns(_Request):
    """The columns of an item, as in the run's catalogue; see docs/data-format.md."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={"examples": [{"title": "Brass can", "categories": ["Garden"]}]},
    )
    __pydantic_extra__: dict[str, Cell]

    def columns(self) -> dict[str, Any]:
        """Column name to value."""
        return self.model_dump()


class NewItem(ItemColumns):
    """An item with its columns."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"item_id": "new-1", "title": "Brass can", "categories": ["Garden"]}]
        }
    )

    item_id: Id = Field(description="An id that the catalogue does not have.")


class AddItemsRequest(_Request):
    """Items that the catalogue does not have."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"items": [{"item_id": "new-1", "title": "Brass can", "categories": ["Garden"]}]}
            ]
        }
    )

    items: list[NewItem] = Field(
        min_length=1, max_length=MAX_NEW_ITEMS, description="Either all are added or none."
    )


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


Version = Annotated[int, Field(description="Version of the catalogue; grows with every change.")]
InCatalogue = Annotated[str, Field(description="As in the catalogue.")]
Codes = Annotated[
    list[str], Field(description="The semantic ID.", examples=[["<a_12>", "<b_3>", "<c_7>"]])
]
PredictedTags = Annotated[list[str], Field(description="Predicted tags, coarse to fine.")]
TagConfidences = Annotated[list[float], Field(description="Confidence in each tag, in [0, 1].")]
SharedLevels = Annotated[int, Field(description="Number of first codes in common.")]
CommonTag = Annotated[
    str | None, Field(description="Path of the most common tag of the items below.")
]
Purity = Annotated[
    float | None, Field(description="Share of the tagged items below that have this tag.")
]


class CauseParts(_Answer):
    """A history item's share of the gain by kind; together they are its share."""

    likeness: float = Field(description="By the learned likeness: content that goes together.")
    co_occurrence: float = Field(
        description="Other users took both, or each together with a third item."
    )
    content: float = Field(description="Text, image or your own vectors are alike.")
    words: float = Field(description="Words in common.")


class Cause(_Answer):
    """An item of the history that moved the recommended one up."""

    item_id: InCatalogue
    title: InCatalogue
    share: float = Field(
        description="Of what item graph and likeness add to the score, in (0, 1]; history items "
        "beyond the three, and below one in a hundred, have the rest."
    )
    parts: CauseParts = Field(description="The share by kind.")
    shared_levels: int = Field(
        description="Number of first codes in common; it had no part in the share."
    )


class ScoreParts(_Answer):
    """What a score is made of, in nats; the parts add up to it."""

    generator: float = Field(description="The same as `log_prob`.")
    item_graph: float = Field(description="Added by the item graph.")
    likeness: float = Field(description="Added by the learned likeness.")
    reranker: float = Field(
        description="What its place in the reranker's order changed; 0 where there is none."
    )


class OrderParts(_Answer):
    """How much higher the reranker scores an item than with average features of one group."""

    generator: float = Field(description="By its log-probability.")
    followers: float = Field(
        description="By how often it came after the latest items of the history, or before them."
    )
    likeness: float = Field(description="By how like them it is by learned likeness.")
    content: float = Field(description="By how like them its content is.")
    words: float = Field(description="By the words that it has in common with them.")


class RecommendedItem(_Answer):
    """An item and the reasons for it."""

    item_id: InCatalogue
    title: InCatalogue
    reason: str = Field(description="Why it is recommended, in one sentence.")
    score: float = Field(
        description="What it is ranked by, in nats; of a popular item the log of its share of the "
        "training events."
    )
    score_parts: ScoreParts | None = Field(
        description="What the score is made of; null for a popular item."
    )
    order_parts: OrderParts | None = Field(
        description="What put it in its place; null where no reranker does."
    )
    log_prob: float | None = Field(
        description="Log-probability of its semantic ID; null for a popular item."
    )
    prob: float | None = Field(description="The probability of its semantic ID.")
    codes: Codes
    code_probs: list[float] = Field(
        description="Probability of each code; empty for a popular item."
    )
    tag_path: PredictedTags
    tag_confidences: TagConfidences
    because: list[Cause] = Field(
        description="Items of the history that moved it up, largest share first; at most three, "
        "none where item graph and likeness add nothing."
    )


class RecommendedList(_Answer):
    """The answer to one user."""

    items: list[RecommendedItem] = Field(description="Best first.")
    history: list[str] = Field(description="The items of the history that were used.")
    unknown_items: list[str] = Field(
        description="Items of the history that are unknown and were ignored."
    )
    is_fallback: bool = Field(
        description="No item of the history is known: these are the most popular items."
    )


class RecommendResponse(_Answer):
    """A list per user, in the order of the request."""

    version: Version
    results: list[RecommendedList] = Field(description="One per user.")


class RecommendOneResponse(RecommendedList):
    """The list of the one user who was asked for without `users`."""

    version: Version


class ExplainResponse(_Answer):
    """One item with its reasons."""

    version: Version
    item: RecommendedItem = Field(description="The item that was asked for.")
    history: list[str] = Field(description="The items of the history that were used.")
    unknown_items: list[str] = Field(
        description="Items of the history that are unknown and were ignored."
    )
    is_fallback: bool = Field(description="No item of the history is known: no probability.")


class ItemCard(_Answer):
    """An item, short."""

    item_id: InCatalogue
    title: InCatalogue
    codes: Codes
    tag_path: PredictedTags
    tag_confidences: TagConfidences


class ItemsResponse(_Answer):
    """A page of a search."""

    version: Version
    total: int = Field(description="Items found, on all pages.")
    items: list[ItemCard] = Field(description="Items on this page.")


class ItemResponse(ItemCard):
    """An item with everything that the catalogue knows about it."""

    version: Version
    fields: dict[str, Any] = Field(description="Its columns in the catalogue.")
    num_sharing: list[int] = Field(
        description="For each prefix length, the number of items with this prefix, itself included."
    )


class SimilarItem(ItemCard):
    """An item near another."""

    shared_levels: SharedLevels
    similarity: float = Field(description="Cosine of the item embeddings' content, in [-1, 1].")


class SimilarResponse(_Answer):
    """Longest common prefix first, then the most similar."""

    version: Version
    items: list[SimilarItem] = Field(description="Similar items, without the item itself.")


class TagNode(_Answer):
    """A tag and the tags below it."""

    name: str = Field(description="Empty for the root.")
    path: str = Field(description="The tag with those above it, as filters take it.")
    level: int = Field(description="0 is the coarsest; -1 is the root, which is not a tag.")
    count: int = Field(description="Number of items with this tag.")
    children: list[TagNode] = Field(description="The tags directly below.")


class Branch(_Answer):
    """A code that can follow a prefix."""

    code: str = Field(description="The code after the prefix.")
    count: int = Field(description="Number of items below.")
    tag: CommonTag
    purity: Purity


class TreeResponse(_Answer):
    """A node of the tree of semantic IDs."""

    version: Version
    prefix: list[str] = Field(description="Codes from the root to here.")
    count: int = Field(description="Number of items below.")
    tag: CommonTag
    purity: Purity
    children: list[Branch] = Field(description="Empty where the ID ends.")
    items: list[ItemCard] = Field(description="Items below, most popular first.")


class KnownUser(_Answer):
    """A user of the run's dataset."""

    user_id: str = Field(description="Id of a user in the dataset.")
    num_events: int = Field(description="Number of their events.")


class UsersResponse(_Answer):
    """Some users of the dataset."""

    version: Version
    total: int = Field(description="Number of users in the dataset.")
    users: list[KnownUser] = Field(description="Spread evenly over the dataset.")


class VersionResponse(_Answer):
    """The catalogue after a change."""

    version: Version


class StatusResponse(_Answer):
    """State of the server."""

    status: str = Field(description="Either alive or ready.")
    version: Version
    num_items: int = Field(description="Number of items that can be recommended.")


class Problem(_Answer):
    """An error (RFC 9457)."""

    type: str = Field(
        description="Always about:blank; the status says what kind.", examples=["about:blank"]
    )
    title: str = Field(description="The status as text.", examples=["Not Found"])
    status: int = Field(description="The status code of the answer.", examples=[404])
    detail: str = Field(description="What went wrong, in one line.")
